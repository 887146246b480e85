"""Every variable the billing service reads, named once. A party outside whose address is not set is not there."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from shared.settings import ServiceSettings

PartyName = Literal["insurance", "channel", "receipts"]


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
