"""The jobs that run before the services of a containerised stack; each may run again at any time and changes nothing then.

    python -m infra.compose.prepare migrate   roles with their passwords, schemas, migrations
    python -m infra.compose.prepare topics    exactly the topics of the contracts (R17)

Passwords come from `migrate.env` (make_secrets.py). The image is the one of the services, so code and schema fit.
"""

import asyncio
import os
import sys
from urllib.parse import quote

from infra.compose.make_secrets import DATABASE_HOST
from infra.kafka.topics import TopicsWrong, create_topics
from infra.local.postgres import ROLE_OF_ALL
from infra.local.prepare import create_database
from infra.local.services import AUDIT_ROLE, DATABASE, SERVICES, app_role, owner_role
from shared.contracts.registry import TOPICS
from shared.db import MigrationFailed, migrate


def _passwords() -> dict[str, str]:
    found = {
        ROLE_OF_ALL: os.environ["WARDSTREAM_SUPERUSER_PASSWORD"],
        AUDIT_ROLE: os.environ["WARDSTREAM_AUDIT_PASSWORD"],
    }
    for service in SERVICES:
        found[app_role(service)] = os.environ[f"WARDSTREAM_{service.upper()}_PASSWORD"]
        found[owner_role(service)] = os.environ[f"WARDSTREAM_{service.upper()}_OWNER_PASSWORD"]
    return found


async def prepare_database() -> None:
    """Create roles and schemas, then apply every service's migrations as the owner of its schema (S5, R64)."""
    secret = _passwords()
    host = os.environ.get("WARDSTREAM_DATABASE_HOST", DATABASE_HOST)

    def address(role: str, database: str) -> str:
        return f"postgresql://{role}:{quote(secret[role], safe='')}@{host}/{database}"

    await create_database(address, secret)
    for service in SERVICES:
        done = await migrate(address(owner_role(service), DATABASE), service, app_role=app_role(service))
        sys.stderr.write(f"{service}: {len(done)} migrations applied\n")


async def prepare_topics() -> None:
    """Create the topics that are missing; refuse when one has another number of partitions (R17)."""
    replicas = int(os.environ.get("WARDSTREAM_TOPIC_REPLICAS", "1"))
    created = await create_topics(os.environ["WARDSTREAM_KAFKA_BOOTSTRAP"], TOPICS, replicas=replicas)
    sys.stderr.write(f"{len(created)} topics created, {len(TOPICS)} as the contracts say\n")


JOBS = {"migrate": prepare_database, "topics": prepare_topics}


def main() -> None:
    """Run the job named on the command line; exit 1 with one sentence when something does not hold."""
    if len(sys.argv) != 2 or sys.argv[1] not in JOBS:
        sys.exit(f"usage: python -m infra.compose.prepare {'|'.join(JOBS)}")
    try:
        asyncio.run(JOBS[sys.argv[1]]())
    except (MigrationFailed, TopicsWrong) as error:
        sys.exit(str(error))
    except KeyError as missing:
        sys.exit(f"The variable {missing} is not set; make the secrets with infra/compose/make_secrets.py.")


if __name__ == "__main__":
    main()
