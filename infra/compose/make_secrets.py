"""Make the secrets of a containerised stack: one environment file per container, each with what that container needs and no more.

    python3 infra/compose/make_secrets.py [--simulators] [DIRECTORY]

With --simulators also those of the simulated parties outside, and `outside.env`, which tells billing of them. Standard
library only. Files that exist are left as they are, so it may run again at any time; mode 0600, never committed.
"""

import secrets
import sys
from pathlib import Path

SIMULATORS = ("insurance", "channel", "receipts")
HOSPITAL_CODE, AREA, MERCHANT = "H37010000001", "370100", "1900000001"
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


def simulated() -> dict[str, dict[str, str]]:
    """Return fresh secrets of the simulators, and what billing needs to reach them."""
    made: dict[str, dict[str, str]] = {}
    outside = {
        "WARDSTREAM_HOSPITAL_CODE": HOSPITAL_CODE,
        "WARDSTREAM_INSURANCE_AREA": AREA,
        "WARDSTREAM_CHANNEL_MERCHANT_ID": MERCHANT,
        "WARDSTREAM_CHANNEL_NOTIFY_URL": "http://billing:8000/api/billing/channel/notices",
    }
    for name in SIMULATORS:
        key = secrets.token_urlsafe(PASSWORD_BYTES)
        made[name] = {
            "WARDSTREAM_SIM_HOST": "0.0.0.0",  # noqa: S104 - inside its container
            "WARDSTREAM_SIM_STATE_FILE": f"/var/lib/wardstream/{name}.sqlite",
            "WARDSTREAM_SIM_ADMIN_TOKEN": secrets.token_urlsafe(PASSWORD_BYTES),
            "WARDSTREAM_SIM_KEY_ID": MERCHANT if name == "channel" else HOSPITAL_CODE,
            "WARDSTREAM_SIM_KEY": key,
        }
        outside |= {f"WARDSTREAM_{name.upper()}_URL": f"http://{name}:8000", f"WARDSTREAM_{name.upper()}_KEY": key}
    return {**made, "outside": outside}


def main() -> None:
    """Write the files asked for."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--simulators"]
    directory = Path(arguments[0]) if arguments else HERE
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write(directory, environments())
    if "--simulators" in sys.argv[1:]:
        write(directory, simulated())


def write(directory: Path, environments: dict[str, dict[str, str]]) -> None:
    """Write these files, all or none: secrets of different runs do not fit each other."""
    wanted = {directory / f"{name}.env": values for name, values in environments.items()}
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
