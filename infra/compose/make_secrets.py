"""Make the secrets of a containerised stack: one environment file per container, each with what that container needs and no more.

    python3 infra/compose/make_secrets.py [DIRECTORY]

Standard library only. Files that exist are left as they are, so it may run again at any time; mode 0600, never committed.
"""

import secrets
import sys
from pathlib import Path

SERVICES = ("access", "admission", "beds", "billing", "daysurgery", "followup", "insight")
DATABASE_HOST = "postgres:5432"
DATABASE = "wardstream"
PASSWORD_BYTES = 24
HERE = Path(__file__).parent / "env"


def _url(role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@{DATABASE_HOST}/{DATABASE}"


def environments() -> dict[str, dict[str, str]]:
    """Return fresh secrets: the container's name -> its variables."""
    superuser = secrets.token_urlsafe(PASSWORD_BYTES)
    traces = secrets.token_urlsafe(PASSWORD_BYTES)
    app = {service: secrets.token_urlsafe(PASSWORD_BYTES) for service in SERVICES}
    owner = {service: secrets.token_urlsafe(PASSWORD_BYTES) for service in SERVICES}
    migrate = {
        "WARDSTREAM_SUPERUSER_PASSWORD": superuser,
        "WARDSTREAM_AUDIT_PASSWORD": secrets.token_urlsafe(PASSWORD_BYTES),
    }
    for service in SERVICES:
        migrate[f"WARDSTREAM_{service.upper()}_PASSWORD"] = app[service]
        migrate[f"WARDSTREAM_{service.upper()}_OWNER_PASSWORD"] = owner[service]
    return {
        "postgres": {"POSTGRES_PASSWORD": superuser},
        "migrate": migrate,
        **{
            service: {"WARDSTREAM_DATABASE_URL": _url(f"ws_{service}", app[service]), "WARDSTREAM_OTLP_TOKEN": traces}
            for service in SERVICES
        },
    }


def main() -> None:
    """Write the files, all or none: passwords of different runs do not fit each other."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = {directory / f"{name}.env": values for name, values in environments().items()}
    there = [path for path in wanted if path.exists()]
    if there and len(there) < len(wanted):
        missing = ", ".join(sorted(path.name for path in wanted if path not in there))
        sys.exit(
            f"{directory} is incomplete ({missing} missing); restore it from your backup, or empty it and the database."
        )
    if there:
        sys.stderr.write(f"{directory} has its secrets already.\n")
        return
    for path, values in wanted.items():
        path.touch(mode=0o600)
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()), "utf-8")
    sys.stderr.write(f"{len(wanted)} files written to {directory}; keep a copy where your backups are.\n")


if __name__ == "__main__":
    main()
