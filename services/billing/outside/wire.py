"""What billing and every party outside write to each other in the same way: signatures, and amounts with two decimals.

Each HTTP body is signed with a key both sides have (HMAC-SHA256). The signed text begins with what kind of letter it is, so
that a request can never be played back as an answer, and an answer carries the nonce of its request, so that an old answer
never fits a new question.
"""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["request", "answer", "notice"]

KEY_ID, TIMESTAMP, NONCE, SIGNATURE = "x-key-id", "x-timestamp", "x-nonce", "x-signature"
AGE_SECONDS_MAX = 300.0
"""How old, or how far ahead of our clock, a request or notice may be."""


class Forged(ValueError):
    """This was not signed by who has the key, or not for this, or not now."""


def _signature(key: bytes, kind: Kind, key_id: str, timestamp: str, nonce: str, subject: str, body: bytes) -> str:
    head = "\n".join((kind, key_id, timestamp, nonce, subject, ""))
    return hmac.new(key, head.encode() + body, hashlib.sha256).hexdigest()


def sign(key: bytes, kind: Kind, key_id: str, subject: str, body: bytes, *, nonce: str | None = None) -> dict[str, str]:
    """Return the headers that prove who wrote this body, about what and when.

    Args:
        key: the secret both sides have.
        kind: a letter of one kind never passes as one of another.
        key_id: whose key it is: the merchant or the hospital.
        subject: method and address of a request, the status of an answer, nothing for a notice.
        body: the very bytes that are sent.
        nonce: the request's, for an answer; a new one by default.
    """
    timestamp, nonce = str(int(time.time())), nonce or secrets.token_hex(16)
    signature = _signature(key, kind, key_id, timestamp, nonce, subject, body)
    return {KEY_ID: key_id, TIMESTAMP: timestamp, NONCE: nonce, SIGNATURE: signature}


def verify(key: bytes, kind: Kind, key_id: str, subject: str, headers: Mapping[str, str], body: bytes) -> str:
    """Return the nonce of a body that is truly from whom it says, meant for us and at most five minutes old.

    Whether the nonce was used before is for the caller to know.

    Raises:
        Forged: one of these does not hold.
    """
    given = {name.lower(): value for name, value in headers.items()}
    timestamp, nonce = given.get(TIMESTAMP, ""), given.get(NONCE, "")
    if given.get(KEY_ID) != key_id or not 16 <= len(nonce) <= 64:
        raise Forged("This is meant for somebody else.")
    expected = _signature(key, kind, key_id, timestamp, nonce, subject, body)
    if not hmac.compare_digest(expected.encode(), given.get(SIGNATURE, "").encode()):
        raise Forged("The signature does not fit.")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > AGE_SECONDS_MAX:
        raise Forged("This is too old, or from tomorrow.")
    return nonce


def read_json(body: bytes) -> Any:
    """Return what a JSON text says, with decimal numbers as their text: no amount ever passes through a float (R50).

    Raises:
        ValueError: it is no JSON, or nests without end.
    """
    try:
        return json.loads(body, parse_float=str, parse_constant=str)
    except RecursionError:
        raise ValueError("This JSON nests too deep.") from None


def write_json(value: object) -> bytes:
    """Return the bytes that are signed and sent."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decimal_text(fen: int) -> str:
    """Return the amount as the outside writes it, yuan with two decimals (16,2): `1234.56` for 123456 fen; never rounds."""
    yuan, rest = divmod(abs(fen), 100)
    return f"{'-' if fen < 0 else ''}{yuan}.{rest:02d}"
