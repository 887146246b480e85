"""The front door, Caddy: one origin for static files and `/api/<service>/*`, on loopback, with no admin interface."""

from collections.abc import Mapping
from pathlib import Path

from infra.local.home import PROJECT_ROOT
from infra.local.machine import find_caddy

CADDYFILE = Path(__file__).with_name("Caddyfile")


def static_root() -> Path:
    """Return the built screens, or the small page that stands in for them."""
    built = PROJECT_ROOT / "web" / "dist"
    return built if (built / "index.html").exists() else Path(__file__).with_name("www")


def command() -> list[str]:
    """Return the command line."""
    return [str(find_caddy()), "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"]


def environment(port: int, upstreams: Mapping[str, int], storage: Path) -> dict[str, str]:
    """Return what the Caddyfile reads: the port to listen on and each service's port."""
    return {
        "FRONT_SITE": f"http://:{port}",
        "FRONT_BIND": "127.0.0.1",
        "FRONT_HOSTS": "127.0.0.1 localhost",
        "FRONT_AUTO_HTTPS": "off",
        "FRONT_STORAGE": str(storage),
        "FRONT_STATIC": str(static_root()),
        "HOME": str(storage),
        "XDG_CONFIG_HOME": str(storage),
        "XDG_DATA_HOME": str(storage),
        **{f"{service.upper()}_UPSTREAM": f"127.0.0.1:{upstream}" for service, upstream in upstreams.items()},
    }
