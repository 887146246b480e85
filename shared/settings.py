"""Settings every service reads from the environment (`WARDSTREAM_…`). Secrets come from files or the environment, never from code."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """What every service needs to start."""

    model_config = SettingsConfigDict(env_prefix="WARDSTREAM_", extra="ignore")

    database_url: str = Field(description="PostgreSQL address of this service's own role.")
    kafka_bootstrap: str = Field(default="127.0.0.1:9092", description="Kafka bootstrap servers, comma separated.")
    host: str = Field(default="127.0.0.1", description="Address the service listens on.")
    port: int = Field(default=8000, description="Port the service listens on.")
    jwks_url: str = Field(default="", description="Where the signing keys of the access service are published.")
    otlp_endpoint: str = Field(default="", description="Where traces are sent (OTLP/HTTP); empty: nowhere.")
    otlp_token: SecretStr = Field(
        default=SecretStr(""), description="What a receiver on another machine asks senders of traces for."
    )
    trace_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of new traces that are recorded.")
    hospital_zone: str = Field(
        default="Asia/Shanghai", description="The hospital's time zone; business days follow it."
    )
    fault_point: str = Field(
        default="", description="Test builds only: `K<n>[:<count>]` kills this process at that point."
    )
    log_level: str = Field(default="INFO", description="Least severe log line that is written.")
    pool_size_max: int = Field(default=10, ge=2, description="Most database sessions the service opens.")
    ready_lag_max: int = Field(
        default=50_000, description="Unread events above which the service calls itself not ready."
    )
    statement_timeout_ms: int = Field(
        default=15_000, description="A statement that runs longer is cancelled by the server."
    )
