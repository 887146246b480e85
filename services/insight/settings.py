"""Settings of insight."""

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """How much is kept, and how often the broker is asked."""

    span_count_max: int = Field(
        default=200_000, ge=1000, description="Spans kept per day; as it fills, a growing share of traces is left out."
    )
    lag_seconds: float = Field(default=5.0, gt=0, description="How often consumer groups are compared with the topics.")
    stall_seconds: float = Field(
        default=60.0, gt=0, description="No record taken in for so long while some wait: the process starts anew."
    )
