"""What the billing service reads from the environment; nothing beyond what every service reads."""

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the billing service."""
