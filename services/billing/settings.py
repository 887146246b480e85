"""Every variable the billing service reads, named once. A party outside whose address is not set is not there."""

from functools import cached_property
from pathlib import Path
from typing import Literal, Self
from zoneinfo import ZoneInfo

import yaml
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.billing.arrears import ArrearsPolicy
from services.billing.prices.rules import BedDayPolicy
from services.billing.working_days import Calendar
from shared.settings import ServiceSettings

PartyName = Literal["insurance", "channel", "receipts"]
_DATA = Path(__file__).parent / "data"


class PriceRules(BaseSettings):
    """What a hospital decides about prices; has a default for everything, so that the rules exist without a database."""

    model_config = SettingsConfigDict(env_prefix="WARDSTREAM_", extra="ignore")

    hospital_zone: str = Field(
        default="Asia/Shanghai", description="The hospital's time zone; business days follow it."
    )
    prices_file: Path = Field(default=_DATA / "prices.csv", description="Prices a new, empty catalogue starts with.")
    bed_days_file: Path = Field(default=_DATA / "bed_days.yaml", description="How bed days and hours are counted.")
    arrears_file: Path = Field(
        default=_DATA / "arrears.yaml", description="What a stay may owe, and what is asked as a deposit."
    )
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

    @cached_property
    def arrears(self) -> ArrearsPolicy:
        """Return what may be owed and what is asked as a deposit; read once. A file that cannot be used stops the start."""
        return ArrearsPolicy.model_validate(yaml.safe_load(self.arrears_file.read_text("utf-8")))


class DeskRules(BaseSettings):
    """What a hospital decides about its desk; has a default for everything."""

    model_config = SettingsConfigDict(env_prefix="WARDSTREAM_", extra="ignore")

    hospital_name_zh: str = Field(default="示例医院", description="The hospital's name on its papers, in Chinese.")
    hospital_name_en: str = Field(default="Example Hospital", description="The same in English.")
    refund_alone_fen_max: int = Field(
        default=500_000,
        ge=0,
        description="What one person may give back of an account's deposits within 24 hours; more needs a second one.",
    )
    working_days_file: Path = Field(
        default=_DATA / "working_days.yaml", description="Public holidays and the days worked instead (节假日调休)."
    )

    @cached_property
    def calendar(self) -> Calendar:
        """Return which days are worked; read once. A file that cannot be used stops the start."""
        return Calendar.model_validate(yaml.safe_load(self.working_days_file.read_text("utf-8")))


class Settings(ServiceSettings):
    """What the billing service needs beyond what every service needs."""

    outside_timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, description="How long an answer from outside the hospital is waited for."
    )
    hospital_code: str = Field(
        default="",
        description="The hospital's own number at the insurance fund and the receipt office (定点医药机构编号).",
    )
    insurance_url: str = Field(default="", description="Address of the insurance interface (医保接口); empty: none.")
    insurance_area: str = Field(default="", description="The hospital's area code (就医地医保区划).")
    insurance_key: SecretStr = Field(default=SecretStr(""), description="The key shared with the insurance fund.")
    insurance_key_file: Path | None = Field(default=None, description="A file with that key instead.")
    channel_url: str = Field(default="", description="Address of the payment channel; empty: none.")
    channel_merchant_id: str = Field(default="", description="The hospital's merchant number (商户号).")
    channel_notify_url: str = Field(default="", description="Where the channel sends its notices.")
    channel_key: SecretStr = Field(default=SecretStr(""), description="The key shared with the payment channel.")
    channel_key_file: Path | None = Field(default=None, description="A file with that key instead.")
    receipts_url: str = Field(default="", description="Address of the receipt office (财政电子票据); empty: none.")
    receipts_key: SecretStr = Field(default=SecretStr(""), description="The key shared with the receipt office.")
    receipts_key_file: Path | None = Field(default=None, description="A file with that key instead.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Refuse to start half connected: an address without a key or without who we are there."""
        needed: dict[PartyName, tuple[str, ...]] = {
            "insurance": ("hospital_code", "insurance_area"),
            "channel": ("channel_merchant_id", "channel_notify_url"),
            "receipts": ("hospital_code",),
        }
        for party, fields in needed.items():
            if not getattr(self, f"{party}_url"):
                continue
            missing = [name for name in fields if not getattr(self, name)]
            missing += [] if self.secret_of(party) else [f"{party}_key"]
            if missing:
                raise ValueError(f"{party}_url is set, but not {', '.join(missing)}.")
        return self

    def secret_of(self, party: PartyName) -> bytes:
        """Return the key shared with a party, from its file if one is named.

        Raises:
            OSError: the file cannot be read.
        """
        file: Path | None = getattr(self, f"{party}_key_file")
        if file is not None:
            return file.read_text("utf-8").strip().encode()
        key: SecretStr = getattr(self, f"{party}_key")
        return key.get_secret_value().encode()
