"""Every variable a simulator reads (`WARDSTREAM_SIM_…`), named once. Keys come from the environment, never from code."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class SimulatorSettings(BaseSettings):
    """What every simulator needs to start."""

    model_config = SettingsConfigDict(env_prefix="WARDSTREAM_SIM_", extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address it listens on.")
    port: int = Field(default=8000, description="Port it listens on.")
    state_file: Path = Field(description="SQLite file with its truth; made when absent.")
    admin_token: SecretStr = Field(min_length=16, description="What /admin asks for as a bearer token.")
    key_id: str = Field(min_length=1, description="The one customer it knows: the hospital's number there.")
    key: SecretStr = Field(min_length=16, description="The key shared with that customer.")
    public_url: str = Field(default="", description="Where people reach its pages; by default its own address.")
    hospital_zone: str = Field(default="Asia/Shanghai", description="Time zone of its business day.")
    speed: float = Field(default=1.0, gt=0, description="How many times faster than life notices are repeated.")
    refund_seconds: float = Field(default=2.0, ge=0, description="How long a refund is being processed, at speed 1.")

    def page_url(self, path: str) -> str:
        """Return where people find one of its pages."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/") + path
