"""The payment channel (WeChat, Alipay) over its signed JSON interface; names of fields as WeChat Pay v3 has them.

An order is known by our number (`out_trade_no`), a refund by ours too (`out_refund_no`): the same number again is the same
thing, so what is unknown may be asked about or repeated without paying twice (R53).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from services.billing.outside import wire
from services.billing.outside.calls import Caller, Form
from services.billing.ports import (
    ChannelMethod,
    ChannelRefund,
    Declined,
    Done,
    ForgedNotice,
    Notice,
    Order,
    OrderState,
    Outcome,
    RefundState,
    StatementRow,
    Unknown,
)
from shared.money import FEN_MAX

ORDER_UNKNOWN, REFUND_UNKNOWN = "ORDER_NOT_EXIST", "REFUND_NOT_EXIST"
_Fen = Annotated[int, Field(strict=True, gt=0, le=FEN_MAX)]

_STATES: dict[str, OrderState] = {"NOTPAY": "unpaid", "SUCCESS": "paid", "CLOSED": "closed"}
_REFUND_STATES: dict[str, RefundState] = {"PROCESSING": "processing", "SUCCESS": "done", "ABNORMAL": "failed"}


class _Code(Form):
    mchid: str
    out_trade_no: str
    code_url: Annotated[str, Field(min_length=1, max_length=1024)]


class _Amount(Form):
    total: _Fen
    payer_total: _Fen | None = None
    currency: Literal["CNY"]


class _Order(Form):
    mchid: str
    out_trade_no: str
    trade_state: Literal["NOTPAY", "SUCCESS", "CLOSED"]
    amount: _Amount
    transaction_id: str | None = None
    success_time: AwareDatetime | None = None

    @model_validator(mode="after")
    def _paid_has_its_proof(self) -> Self:
        proof = (self.transaction_id, self.success_time, self.amount.payer_total)
        if any((part is not None) != (self.trade_state == "SUCCESS") for part in proof):
            raise ValueError("A paid order has a transaction, a time and the sum that was paid; no other has.")
        return self

    def order(self) -> Order:
        return Order(
            order_no=self.out_trade_no,
            state=_STATES[self.trade_state],
            amount_fen=self.amount.payer_total or self.amount.total,
            transaction_id=self.transaction_id,
            paid_at=self.success_time,
        )


class _Notice(Form):
    event_type: Literal["TRANSACTION.SUCCESS"]
    resource: _Order


class _RefundAmount(Form):
    refund: _Fen
    currency: Literal["CNY"]


class _Refund(Form):
    mchid: str
    out_refund_no: str
    out_trade_no: str
    status: Literal["PROCESSING", "SUCCESS", "ABNORMAL"]
    amount: _RefundAmount


class _Row(Form):
    out_trade_no: str
    transaction_id: str
    out_refund_no: str | None = None
    amount: _Fen
    time: AwareDatetime


class _Statement(Form):
    mchid: str
    date: date
    rows: tuple[_Row, ...]
    payments_total: Annotated[int, Field(strict=True)]
    refunds_total: Annotated[int, Field(strict=True)]

    def adds_up(self) -> bool:
        paid_fen = sum(row.amount for row in self.rows if row.out_refund_no is None)
        refunded_fen = sum(row.amount for row in self.rows if row.out_refund_no is not None)
        return (paid_fen, refunded_fen) == (self.payments_total, self.refunds_total)


class SignedChannel:
    """The payment channel as the port wants it (ports.PaymentChannel)."""

    def __init__(self, caller: Caller, *, notify_url: str) -> None:
        self._caller = caller
        self._mchid = caller.party.key_id
        self._notify_url = notify_url

    async def close(self) -> None:
        """Close every connection."""
        await self._caller.close()

    async def create_order(
        self, order_no: str, amount_fen: int, method: ChannelMethod, expires_at: datetime
    ) -> Outcome[str]:
        """Create an order and return the text of its QR code."""
        asked = {
            "mchid": self._mchid,
            "out_trade_no": order_no,
            "description": "住院费用",
            "method": method,
            "amount": {"total": amount_fen, "currency": "CNY"},
            "time_expire": expires_at.astimezone(UTC).isoformat(),
            "notify_url": self._notify_url,
        }
        told = await self._caller.ask(
            "create",
            "POST",
            "/v3/orders",
            asked,
            _Code,
            lambda told: (told.mchid, told.out_trade_no) == (self._mchid, order_no),
        )
        return Done(told.code_url) if isinstance(told, _Code) else told

    async def query_order(self, order_no: str) -> Outcome[Order | None]:
        """Ask how an order stands; of a paid one the sum is what was truly paid, which is not always what was asked."""
        told = await self._caller.ask(
            "query", "GET", _address(order_no), None, _Order, lambda told: self._is_of(told, order_no)
        )
        return Done(None) if told == Declined(ORDER_UNKNOWN) else _order(told)

    async def close_order(self, order_no: str) -> Outcome[Order]:
        """Close an order; the answer may be that it was paid already."""
        told = await self._caller.ask(
            "close",
            "POST",
            f"{_address(order_no)}/close",
            {},
            _Order,
            lambda told: self._is_of(told, order_no) and told.trade_state != "NOTPAY",
        )
        return _order(told)

    async def refund(self, refund_no: str, order_no: str, amount_fen: int) -> Outcome[ChannelRefund]:
        """Give part or all of a paid order back."""
        asked = {
            "mchid": self._mchid,
            "out_refund_no": refund_no,
            "out_trade_no": order_no,
            "amount": {"refund": amount_fen, "currency": "CNY"},
        }
        told = await self._caller.ask(
            "refund",
            "POST",
            "/v3/refunds",
            asked,
            _Refund,
            lambda told: (
                (told.mchid, told.out_refund_no, told.out_trade_no, told.amount.refund)
                == (self._mchid, refund_no, order_no, amount_fen)
            ),
        )
        return _refund(told)

    async def query_refund(self, refund_no: str) -> Outcome[ChannelRefund | None]:
        """Ask how a refund stands."""
        told = await self._caller.ask(
            "query_refund",
            "GET",
            f"/v3/refunds/{quote(refund_no, safe='')}",
            None,
            _Refund,
            lambda told: (told.mchid, told.out_refund_no) == (self._mchid, refund_no),
        )
        return Done(None) if told == Declined(REFUND_UNKNOWN) else _refund(told)

    async def statement(self, day: date) -> Outcome[Sequence[StatementRow]]:
        """Return the statement of one business day, if its rows come to its own totals."""
        told = await self._caller.ask(
            "statement",
            "GET",
            f"/v3/statements/{day.isoformat()}",
            None,
            _Statement,
            lambda told: (told.mchid, told.date) == (self._mchid, day) and told.adds_up(),
        )
        if not isinstance(told, _Statement):
            return told
        return Done(
            [
                StatementRow(row.out_trade_no, row.transaction_id, row.amount, row.time, row.out_refund_no)
                for row in told.rows
            ]
        )

    def read_notice(self, headers: Mapping[str, str], body: bytes) -> Notice:
        """Return the paid order a signed notice tells of; whether its nonce was used before is for the caller to know.

        Raises:
            ForgedNotice: the signature, the merchant, the age or the shape is wrong.
        """
        try:
            nonce = wire.verify(self._caller.party.key, "notice", self._mchid, "", headers, body)
            told = _Notice.model_validate(wire.read_json(body)).resource
        except (ValidationError, ValueError) as error:
            del error  # it may quote the notice
            raise ForgedNotice from None
        if told.mchid != self._mchid or told.trade_state != "SUCCESS":
            raise ForgedNotice
        return Notice(nonce, told.order())

    def _is_of(self, told: _Order, order_no: str) -> bool:
        return (told.mchid, told.out_trade_no) == (self._mchid, order_no)


def _address(order_no: str) -> str:
    return f"/v3/orders/{quote(order_no, safe='')}"


def _order(told: _Order | Declined | Unknown) -> Outcome[Order]:
    return Done(told.order()) if isinstance(told, _Order) else told


def _refund(told: _Refund | Declined | Unknown) -> Outcome[ChannelRefund]:
    if not isinstance(told, _Refund):
        return told
    return Done(ChannelRefund(told.out_refund_no, told.out_trade_no, _REFUND_STATES[told.status], told.amount.refund))
