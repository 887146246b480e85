"""What billing and the outside write to each other: signatures that fit one letter, amounts that never round."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.billing.outside import calls, wire
from services.billing.outside.calls import Caller, Form, Party
from services.billing.outside.channel import SignedChannel
from services.billing.outside.receipts import ReceiptOffice
from services.billing.ports import Declined, Done, FeeLine, Unknown
from shared.money import FEN_MAX, fen_from_decimal_text
from shared.telemetry.names import LOG_FIELDS

KEY = b"a key for tests"


@given(st.integers(-FEN_MAX, FEN_MAX))
def test_an_amount_goes_out_and_comes_back_as_it_was(fen: int):
    text = wire.decimal_text(fen)
    assert fen_from_decimal_text(text) == fen
    assert text[-3] == "."


def test_a_signature_is_what_it_always_was(monkeypatch: pytest.MonkeyPatch):
    """A partner computes it with tools of its own: lines of kind, key id, time, nonce and subject, then the body."""
    monkeypatch.setattr("time.time", lambda: 1_772_323_200.9)
    headers = wire.sign(KEY, "request", "H1", "POST /api/trades", b'{"a":1}', nonce="0" * 32)
    assert headers == {
        "x-key-id": "H1",
        "x-timestamp": "1772323200",
        "x-nonce": "0" * 32,
        "x-signature": "6d14d77027c21434411f4195dcf1b22aa06b89ad04a91081353cc0ab72a72d4b",
    }


@given(kind=st.sampled_from(["answer", "notice"]), subject=st.text(max_size=5), body=st.binary(max_size=20))
def test_a_signature_fits_one_letter_only(kind: wire.Kind, subject: str, body: bytes):
    headers = wire.sign(KEY, "request", "H1", "GET /", b"body")
    assert wire.verify(KEY, "request", "H1", "GET /", headers, b"body") == headers["x-nonce"]
    with pytest.raises(wire.Forged):
        wire.verify(KEY, kind, "H1", "GET /", headers, b"body")
    if subject != "GET /":
        with pytest.raises(wire.Forged):
            wire.verify(KEY, "request", "H1", subject, headers, b"body")
    if body != b"body":
        with pytest.raises(wire.Forged):
            wire.verify(KEY, "request", "H1", "GET /", headers, body)
    with pytest.raises(wire.Forged):
        wire.verify(b"another key", "request", "H1", "GET /", headers, b"body")


def test_decimal_numbers_are_read_as_their_text():
    assert wire.read_json(b'{"a": 1234567890123.45, "b": 0.10, "c": 7}') == {
        "a": "1234567890123.45",
        "b": "0.10",
        "c": 7,
    }


# ---- whatever answers ------------------------------------------------------------------------------------------------


class Amount(Form):
    """An answer with one amount."""

    amount: calls.DecimalFen


@contextmanager
def answering(
    status: int, content: bytes, *, signed: bool, drips: bool = False, nonce_of_another: str = ""
) -> Iterator[str]:
    """Serve one answer to everybody."""
    hurry = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(status)
            if signed:
                nonce = nonce_of_another or self.headers["x-nonce"]
                for name, value in wire.sign(KEY, "answer", "H1", str(status), content, nonce=nonce).items():
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for place in range(0, len(content), 1 if drips else len(content)):
                self.wfile.write(content[place : place + (1 if drips else len(content))])
                if drips and hurry.wait(0.1):
                    return

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        hurry.set()
        server.shutdown()
        thread.join()
        server.server_close()


def ask(url: str, *, seconds: float = 5) -> Any:
    async def once() -> Any:
        caller = Caller(Party("party", url, "H1", KEY, seconds))
        try:
            return await caller.ask("question", "GET", "/thing", None, Amount)
        finally:
            await caller.close()

    return asyncio.run(once())


@pytest.mark.parametrize(
    ("status", "content", "signed", "expected"),
    [
        (200, b'{"amount": "12.34"}', True, Amount(amount="12.34")),
        (200, b'{"amount": 12.34, "more": [1]}', True, Amount(amount="12.34")),
        (200, b'{"amount": 12}', True, Amount(amount="12.00")),
        (200, b'{"amount": "12.345"}', True, Unknown("unreadable")),
        (200, b'{"amount": true}', True, Unknown("unreadable")),
        (200, b'{"amount": NaN}', True, Unknown("unreadable")),
        (200, b'{"amount": 1e400}', True, Unknown("unreadable")),
        (200, b'{"amount": null}', True, Unknown("unreadable")),
        (200, b"{}", True, Unknown("unreadable")),
        (200, b"[]", True, Unknown("unreadable")),
        (200, b"", True, Unknown("unreadable")),
        (200, b"\xff\xfe", True, Unknown("unreadable")),
        (200, b"[" * 100_000, True, Unknown("unreadable")),
        (200, b'{"amount": ' + b"9" * 5_000 + b"}", True, Unknown("unreadable")),
        (200, b'{"amount": "12.34"}', False, Unknown("bad_signature")),
        (400, b'{"code": "NO"}', True, Declined("NO")),
        (404, b'{"code": "NO"}', False, Unknown("bad_signature")),
        (400, b"{}", True, Unknown("unreadable")),
        (302, b'{"amount": "12.34"}', True, Unknown("unreadable")),
        (503, b'{"code": "NO"}', True, Unknown("server_error")),
        (200, b" " * (calls.ANSWER_BYTES_MAX + 1), True, Unknown("unreadable")),
    ],
)
def test_whatever_is_answered_is_an_outcome_and_never_an_exception(status, content, signed, expected):
    with answering(status, content, signed=signed) as url:
        assert ask(url) == expected


SOMETIME = datetime(2026, 3, 1, tzinfo=UTC)
RECEIPT = {"number": "N-0001", "check_code": "1", "url": "u", "amount": "5.00", "red_of": None}
ORDER = {"mchid": "H1", "out_trade_no": "O-0001", "trade_state": "NOTPAY", "amount": {"total": 500, "currency": "CNY"}}
REFUND = {
    "mchid": "H1",
    "out_refund_no": "R-0001",
    "out_trade_no": "O-0001",
    "status": "SUCCESS",
    "amount": {"refund": 500, "currency": "CNY"},
}


@pytest.mark.parametrize(
    ("answer", "changed"),
    [
        (RECEIPT, {"number": "N-0002"}),
        (RECEIPT, {"amount": "5.01"}),
        (RECEIPT, {"red_of": "N-0000"}),
        (ORDER, {"out_trade_no": "O-0002"}),
        (ORDER, {"mchid": "H2"}),
        (ORDER, {"trade_state": "SUCCESS"}),
        (ORDER, {"amount": {"total": 500, "currency": "USD"}}),
        (ORDER, {"amount": {"total": 500.0, "currency": "CNY"}}),
        (ORDER, {"amount": {"total": -500, "currency": "CNY"}}),
        (REFUND, {"out_refund_no": "R-0002"}),
        (REFUND, {"out_trade_no": "O-0002"}),
        (REFUND, {"mchid": "H2"}),
        (REFUND, {"status": "PERHAPS"}),
        (REFUND, {"amount": {"refund": 499, "currency": "CNY"}}),
    ],
)
def test_a_signed_answer_about_something_else_is_not_believed(answer: dict[str, Any], changed: dict[str, Any]):
    async def asked(url: str) -> Any:
        caller = Caller(Party("party", url, "H1", KEY, 5))
        try:
            if answer is RECEIPT:
                line = FeeLine(uuid4(), "BED", 500, SOMETIME)
                return await ReceiptOffice(caller).issue("N-0001", 500, [line], SOMETIME)
            channel = SignedChannel(caller, notify_url=url)
            if answer is ORDER:
                return await channel.query_order("O-0001")
            return await channel.refund("R-0001", "O-0001", 500)
        finally:
            await caller.close()

    with answering(200, wire.write_json(answer), signed=True) as url:
        assert isinstance(asyncio.run(asked(url)), Done)
    with answering(200, wire.write_json({**answer, **changed}), signed=True) as url:
        assert asyncio.run(asked(url)) == Unknown("unreadable")


def test_an_old_answer_does_not_fit_a_new_question():
    with answering(200, b'{"amount": "12.34"}', signed=True, nonce_of_another="a" * 32) as url:
        assert ask(url) == Unknown("bad_signature")


def test_an_answer_that_comes_drop_by_drop_is_not_waited_for_for_ever():
    with answering(200, b'{"amount": "12.34"}', signed=True, drips=True) as url:
        assert ask(url, seconds=0.5) == Unknown("timeout")


def test_the_log_says_whom_and_why_and_nothing_of_what_was_asked():
    with answering(503, b"a person's name", signed=False) as url, capture_logs() as lines:
        assert ask(url) == Unknown("server_error")
    assert lines == [
        {
            "event": "outside_outcome_unknown",
            "log_level": "warning",
            "service": "party",
            "part": "question",
            "reason": "server_error",
        }
    ]
    assert {"service", "part", "reason"} <= LOG_FIELDS


def test_where_nobody_listens_the_outcome_is_unknown():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert ask(f"http://127.0.0.1:{free.getsockname()[1]}") == Unknown("connection_lost")
