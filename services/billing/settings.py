"""What the billing service reads from the environment: the hospital's prices and its rule of bed days."""

from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.billing.prices.rules import BedDayPolicy
from shared.settings import ServiceSettings

_DATA = Path(__file__).parent / "data"


class PriceRules(BaseSettings):
    """What a hospital decides about prices; has a default for everything, so that the rules exist without a database."""

    model_config = SettingsConfigDict(env_prefix="WARDSTREAM_", extra="ignore")

    hospital_zone: str = Field(
        default="Asia/Shanghai", description="The hospital's time zone; business days follow it."
    )
    prices_file: Path = Field(default=_DATA / "prices.csv", description="Prices a new, empty catalogue starts with.")
    bed_days_file: Path = Field(default=_DATA / "bed_days.yaml", description="How bed days and hours are counted.")
    price_looks_per_minute_max: int = Field(
        default=120, ge=1, description="How often one address may look at the public price list."
    )

    @property
    def zone(self) -> ZoneInfo:
        """Return the hospital's time zone."""
        return ZoneInfo(self.hospital_zone)

    @cached_property
    def policy(self) -> BedDayPolicy:
        """Return how bed days and hours are counted; read once. A file that cannot be used stops the start."""
        return BedDayPolicy.model_validate(yaml.safe_load(self.bed_days_file.read_text("utf-8")))


class Settings(ServiceSettings):
    """What every service needs; the hospital's decisions about prices are in `PriceRules`."""
