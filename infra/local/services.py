"""What each service process of an embedded stack is started with, and which database roles and passwords there are."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.local.home import Home, read_json, write_json
from infra.local.postgres import ROLE_OF_ALL, dsn_of

SIMULATORS = ("insurance", "channel", "receipts")
"""The parties outside the hospital, which an embedded stack brings along; a real one names the real ones to billing."""
WITH_PAGES = ("channel", "receipts")
"""The simulators people look at: the page behind a QR code."""
SERVICES = ("access", "admission", "beds", "billing", "daysurgery", "followup", "insight")
DATABASE = "wardstream"
AUDIT_ROLE = "ws_audit"
"""May read every schema and write none; for `wardstream audit` and its like."""

_HOSPITAL_CODE, _AREA, _MERCHANT = "H37010000001", "370100", "1900000001"

_NOT_INHERITED = (
    "PYTHONDONTWRITEBYTECODE",  # or every start compiles the project anew
    "WARDSTREAM_APP_ROLE",
    "WARDSTREAM_FAULT_POINT",
    "WARDSTREAM_HOME",
    "WARDSTREAM_MIGRATE_URL",
)


def app_role(service: str) -> str:
    """Return the role the service works as."""
    return f"ws_{service}"


def owner_role(service: str) -> str:
    """Return the role that owns the service's schema and runs its migrations."""
    return f"ws_{service}_owner"


def passwords(home: Home) -> dict[str, str]:
    """Return every database role's password; made at random once and kept in a file only the owner can read (S9)."""
    path = home.secrets / "postgres.json"
    known: dict[str, str] = read_json(path)
    roles = [ROLE_OF_ALL, AUDIT_ROLE, *(role(service) for service in SERVICES for role in (app_role, owner_role))]
    missing = [role for role in roles if role not in known]
    if missing:
        known |= {role: secrets.token_urlsafe(24) for role in missing}
        write_json(path, known)
    return known


def simulator_secrets(home: Home) -> dict[str, dict[str, str]]:
    """Return each simulator's key, shared with billing, and its operator's token; made at random once (S9)."""
    path = home.secrets / "simulators.json"
    known: dict[str, dict[str, str]] = read_json(path)
    missing = [name for name in SIMULATORS if name not in known]
    if missing:
        known |= {
            name: {"key": secrets.token_urlsafe(32), "admin_token": secrets.token_urlsafe(24)} for name in missing
        }
        write_json(path, known)
    return known


def signing_key_file(home: Home) -> Path:
    """Return where the access service keeps its signing key; it makes the key itself when there is none."""
    return home.secrets / "access-signing-key.json"


def bootstrap_file(home: Home) -> Path:
    """Return where the access service keeps the first accounts with their passwords; it makes them when there are none."""
    return home.secrets / "first-accounts.json"


def command(service: str) -> list[str]:
    """Return the command line of a service."""
    return [sys.executable, "-m", f"services.{service}.main"]


def simulator_command(name: str) -> list[str]:
    """Return the command line of a simulator."""
    return [sys.executable, "-m", f"infra.simulators.{name}"]


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}


def simulator_environment(home: Home, name: str, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the whole environment of a simulator; people reach its pages through the front door."""
    secret = simulator_secrets(home)[name]
    return _inherited() | {
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
        "WARDSTREAM_SIM_HOST": "127.0.0.1",
        "WARDSTREAM_SIM_PORT": str(ports[name]),
        "WARDSTREAM_SIM_STATE_FILE": str(home.root / "simulators" / f"{name}.sqlite"),
        "WARDSTREAM_SIM_ADMIN_TOKEN": secret["admin_token"],
        "WARDSTREAM_SIM_KEY_ID": _MERCHANT if name == "channel" else _HOSPITAL_CODE,
        "WARDSTREAM_SIM_KEY": secret["key"],
        "WARDSTREAM_SIM_PUBLIC_URL": f"http://127.0.0.1:{ports['front']}",
    }


def _outside(home: Home, ports: Mapping[str, int]) -> dict[str, str]:
    """Return what billing is told of the simulators that run."""
    secret = simulator_secrets(home)
    told = {
        "WARDSTREAM_HOSPITAL_CODE": _HOSPITAL_CODE,
        "WARDSTREAM_INSURANCE_AREA": _AREA,
        "WARDSTREAM_CHANNEL_MERCHANT_ID": _MERCHANT,
        "WARDSTREAM_CHANNEL_NOTIFY_URL": f"http://127.0.0.1:{ports['billing']}/api/billing/channel/notices",
    }
    for name in SIMULATORS:
        if name in ports:
            told[f"WARDSTREAM_{name.upper()}_URL"] = f"http://127.0.0.1:{ports[name]}"
            told[f"WARDSTREAM_{name.upper()}_KEY"] = secret[name]["key"]
    return told


def environment(home: Home, service: str, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the whole environment of a service: ours, then `env.json`, which is read anew at every start.

    A null there takes a variable away. Billing is told of the simulators that have a port here.
    """
    env = _inherited() | {
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
        "WARDSTREAM_DATABASE_URL": dsn_of(
            ports["postgres"], app_role(service), passwords(home)[app_role(service)], DATABASE
        ),
        "WARDSTREAM_KAFKA_BOOTSTRAP": f"127.0.0.1:{ports['kafka']}",
        "WARDSTREAM_HOST": "127.0.0.1",
        "WARDSTREAM_PORT": str(ports[service]),
        "WARDSTREAM_JWKS_URL": f"http://127.0.0.1:{ports['access']}/api/access/.well-known/jwks.json",
        "WARDSTREAM_OTLP_ENDPOINT": f"http://127.0.0.1:{ports['insight']}/api/insight/v1/traces",
    }
    if service == "access":
        env["WARDSTREAM_SIGNING_KEY_FILE"] = str(signing_key_file(home))
        env["WARDSTREAM_BOOTSTRAP_FILE"] = str(bootstrap_file(home))
    if service == "billing":
        env = _outside(home, ports) | env
    for name, value in read_json(home.env_file).get(service, {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = str(value)
    return env
