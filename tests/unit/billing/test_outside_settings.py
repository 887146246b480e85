"""Billing starts without anybody outside, with some of them, and never half connected."""

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.billing.outside import connect
from services.billing.settings import Settings

SOMEWHERE = "http://127.0.0.1:1"


def settings(**given: object) -> Settings:
    return Settings(database_url="postgresql://127.0.0.1:1/none", **given)  # type: ignore[arg-type]


def test_without_addresses_there_is_nobody_outside():
    outside = connect(settings())
    assert (outside.insurance, outside.channel, outside.receipts) == (None, None, None)
    asyncio.run(outside.close())


def test_who_has_an_address_is_there(tmp_path: Path):
    key_file = tmp_path / "key"
    key_file.write_text("from a file\n")
    given = settings(
        channel_url=SOMEWHERE,
        channel_merchant_id="1900000001",
        channel_notify_url=f"{SOMEWHERE}/notices",
        channel_key_file=key_file,
    )
    assert given.secret_of("channel") == b"from a file"
    outside = connect(given)
    assert outside.insurance is None
    assert outside.channel is not None
    asyncio.run(outside.close())


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"insurance_url": SOMEWHERE}, "hospital_code, insurance_area, insurance_key"),
        ({"channel_url": SOMEWHERE, "channel_key": "k"}, "channel_merchant_id, channel_notify_url"),
        ({"receipts_url": SOMEWHERE, "hospital_code": "H1"}, "receipts_key"),
    ],
)
def test_an_address_without_what_belongs_to_it_stops_the_start(given: dict[str, str], missing: str):
    with pytest.raises(ValidationError, match=f"is set, but not {missing}"):
        settings(**given)


def test_no_key_is_shown_with_the_settings():
    shown = repr(settings(insurance_key="the secret", channel_key="the secret", receipts_key="the secret"))
    assert "the secret" not in shown
