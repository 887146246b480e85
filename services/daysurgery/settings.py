"""Settings of the day-surgery service: everything a hospital decides about it."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import ServiceSettings


class Rules(BaseSettings):
    """What a hospital decides; has a default for everything, so that the rules exist without a database."""

    model_config = SettingsConfigDict(env_prefix="WARDSTREAM_", extra="ignore", frozen=True)

    hospital_zone: str = Field(
        default="Asia/Shanghai", description="The hospital's time zone; business days follow it."
    )
    slot_hours_max: int = Field(
        default=24, ge=1, le=24, description="Longest slot; day surgery is in and out within 24 h."
    )
    arrival_early_minutes_max: int = Field(
        default=0,
        ge=0,
        description="How long before the slot a patient may take the day bed; it may be another's till then.",
    )
    temporary_cancel_days: int = Field(
        default=1,
        ge=0,
        description="A case cancelled at most this many days before its slot counts as a temporary cancel.",
    )
    procedures_file: Path = Field(
        default=Path(__file__).parent / "data" / "procedures.csv", description="The procedure catalogue (R21, R22)."
    )

    def procedures(self) -> str:
        """Return the text of the procedure catalogue."""
        return self.procedures_file.read_text("utf-8")


class Settings(ServiceSettings):
    """What every service needs; the hospital's decisions are in `Rules`."""
