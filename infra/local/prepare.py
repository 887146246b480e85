"""What a stack needs once per start before its services: database, roles, schemas, migrations, topics.

A short-lived program of its own (`python -m infra.local.prepare HOME SERVICE…`), so that the supervisor stays small and
never runs old code after an upgrade. Everything here may be run again at any time and changes nothing then.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import asyncpg

from infra.kafka.topics import TopicsWrong, create_topics
from infra.local import probes
from infra.local.home import PROJECT_ROOT, Home, read_json
from infra.local.postgres import ROLE_OF_ALL, dsn_of
from infra.local.services import AUDIT_ROLE, DATABASE, SERVICES, app_role, owner_role, passwords

EXTENSIONS = ("btree_gist", "pg_trgm")


def _word(name: str) -> str:
    """Quote a name of ours as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


async def _create_role(conn: asyncpg.Connection, role: str, password: str) -> None:
    """Create the role, or give it this password again; the password never appears in a statement's text in the log."""
    if not await conn.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
        await conn.execute(f"CREATE ROLE {_word(role)} LOGIN")
    statement = await conn.fetchval("SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", role, password)
    await conn.execute(statement)


async def create_database(address: Callable[[str, str], str], secret: Mapping[str, str]) -> None:
    """Create database, roles and schemas; each service's role can use its own schema and nothing else (S5).

    Args:
        address: role and database -> where to connect.
        secret: role -> its password.
    """
    conn = await asyncpg.connect(address(ROLE_OF_ALL, "postgres"))
    try:
        for role in (AUDIT_ROLE, *(kind(service) for service in SERVICES for kind in (app_role, owner_role))):
            await _create_role(conn, role, secret[role])
        await conn.execute(f"GRANT pg_read_all_data TO {_word(AUDIT_ROLE)}")
        if not await conn.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await conn.execute(f"CREATE DATABASE {_word(DATABASE)}")
    finally:
        await conn.close()
    conn = await asyncpg.connect(address(ROLE_OF_ALL, DATABASE))
    try:
        async with conn.transaction():
            await conn.execute(f"REVOKE ALL ON DATABASE {_word(DATABASE)} FROM PUBLIC")
            await conn.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            await conn.execute(f"GRANT CONNECT ON DATABASE {_word(DATABASE)} TO {_word(AUDIT_ROLE)}")
            for extension in EXTENSIONS:
                await conn.execute(f"CREATE EXTENSION IF NOT EXISTS {_word(extension)} SCHEMA public")
            for service in SERVICES:
                owner, app = _word(owner_role(service)), _word(app_role(service))
                await conn.execute(f"GRANT CONNECT ON DATABASE {_word(DATABASE)} TO {owner}, {app}")
                await conn.execute(f"GRANT CREATE ON DATABASE {_word(DATABASE)} TO {owner}")
                await conn.execute(f"GRANT USAGE ON SCHEMA public TO {owner}, {app}")
                await conn.execute(f"CREATE SCHEMA IF NOT EXISTS {_word(service)} AUTHORIZATION {owner}")
                await conn.execute(f"ALTER ROLE {app} SET search_path = {_word(service)}, public")
    finally:
        await conn.close()


def _wait_for_kafka(port: int) -> None:
    """Wait until the broker, which starts at the same time, answers; the supervisor ends us when it cannot start."""
    while not probes.kafka_accepts(port):
        time.sleep(0.1)


async def _prepare(home: Home, services: Sequence[str]) -> None:
    from shared.contracts.registry import TOPICS
    from shared.db import migrate

    ports = read_json(home.state_file)["ports"]
    secret = passwords(home)

    def address(role: str, database: str) -> str:
        return dsn_of(ports["postgres"], role, secret[role], database)

    await create_database(address, secret)
    for service in services:
        if not (PROJECT_ROOT / "services" / service / "migrations").is_dir():
            continue
        owner = owner_role(service)
        done = await migrate(address(owner, DATABASE), service, app_role=app_role(service))
        sys.stderr.write(f"{service}: {len(done)} migrations applied\n")
    await asyncio.to_thread(_wait_for_kafka, ports["kafka"])
    created = await create_topics(f"127.0.0.1:{ports['kafka']}", TOPICS)
    sys.stderr.write(f"{len(created)} topics created, {len(TOPICS)} as the contracts say\n")


def main() -> None:
    """Prepare the home named on the command line; exit 1 with one sentence when something does not hold."""
    home, services = Home.at(Path(sys.argv[1])), sys.argv[2:]
    try:
        asyncio.run(_prepare(home, services))
    except TopicsWrong as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
