"""The parties outside the hospital, each behind its port (ports.py); a hospital's own way to one replaces one file here.

insurance.py   the national insurance interface (医保接口)     channel.py   the payment channel (WeChat, Alipay)
receipts.py    the receipt office (财政电子票据)              calls.py     one signed question, one verified answer
wire.py        signatures and amounts, the same for all
"""

from dataclasses import dataclass

from services.billing.outside.calls import Caller, Party
from services.billing.outside.channel import SignedChannel
from services.billing.outside.insurance import NationalInsurance
from services.billing.outside.receipts import ReceiptOffice
from services.billing.settings import Settings


@dataclass(frozen=True, slots=True)
class Outside:
    """The parties this hospital is connected to; None where it is not."""

    insurance: NationalInsurance | None = None
    channel: SignedChannel | None = None
    receipts: ReceiptOffice | None = None

    async def close(self) -> None:
        """Sign out where we signed in and close every connection."""
        for party in (self.insurance, self.channel, self.receipts):
            if party is not None:
                await party.close()


def connect(settings: Settings) -> Outside:
    """Return the parties whose addresses are set; nothing is sent before the first question."""

    def party(name: str, url: str, key_id: str, key: bytes) -> Party:
        return Party(name, url, key_id, key, settings.outside_timeout_seconds)

    insurance = channel = receipts = None
    if settings.insurance_url:
        at = party("insurance", settings.insurance_url, settings.hospital_code, settings.secret_of("insurance"))
        insurance = NationalInsurance(Caller(at), area=settings.insurance_area)
    if settings.channel_url:
        at = party("channel", settings.channel_url, settings.channel_merchant_id, settings.secret_of("channel"))
        channel = SignedChannel(Caller(at), notify_url=settings.channel_notify_url)
    if settings.receipts_url:
        at = party("receipts", settings.receipts_url, settings.hospital_code, settings.secret_of("receipts"))
        receipts = ReceiptOffice(Caller(at))
    return Outside(insurance, channel, receipts)
