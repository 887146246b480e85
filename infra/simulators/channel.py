"""The payment channel (WeChat, Alipay) as a server: orders, refunds, the daily statement, notices, and the family's pay page.

    POST /v3/orders                   GET /v3/orders/{order_no}      POST /v3/orders/{order_no}/close
    POST /v3/refunds                  GET /v3/refunds/{refund_no}    GET  /v3/statements/{day}
    GET, POST /sim/pay/{token}        what the QR code leads to: a page with one button
    POST /admin/orders/{order_no}/pay the family's phone pays; {"amount_fen": …} pays another sum than was asked
    POST /admin/refunds/{refund_no}/fail

Operations, for faults: create, query, close, refund, query_refund, statement, notice.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from secrets import token_hex, token_urlsafe
from typing import Annotated, Any, Literal

import httpx2
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from infra.simulators.faults import Fault
from infra.simulators.page import page
from infra.simulators.party import Letter, Party, Refused, now_text, one_fen_more, read
from infra.simulators.settings import SimulatorSettings
from shared.money import FEN_MAX

REPEAT_SECONDS = (15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800, 10800, 10800, 21600, 21600)
"""When a notice that was not acknowledged is sent again: WeChat's own schedule, 24 h 4 min in all."""
NOTICE_SECONDS_MAX = 5.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS pay_order (
  order_no TEXT PRIMARY KEY, amount_fen INTEGER NOT NULL CHECK (amount_fen > 0), method TEXT NOT NULL,
  description TEXT NOT NULL, expires_at TEXT NOT NULL, notify_url TEXT NOT NULL, token TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL DEFAULT 'NOTPAY' CHECK (state IN ('NOTPAY', 'SUCCESS', 'CLOSED')),
  paid_fen INTEGER, transaction_id TEXT UNIQUE, paid_at TEXT,
  CHECK ((state = 'SUCCESS') = (paid_fen IS NOT NULL AND transaction_id IS NOT NULL AND paid_at IS NOT NULL))
) STRICT;
CREATE TABLE IF NOT EXISTS refund (
  refund_no TEXT PRIMARY KEY, order_no TEXT NOT NULL REFERENCES pay_order,
  amount_fen INTEGER NOT NULL CHECK (amount_fen > 0), at TEXT NOT NULL, done_at TEXT NOT NULL,
  failed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TRIGGER IF NOT EXISTS no_more_than_paid BEFORE INSERT ON refund
WHEN NEW.amount_fen + (SELECT coalesce(sum(amount_fen), 0) FROM refund WHERE order_no = NEW.order_no AND NOT failed)
   > (SELECT coalesce(paid_fen, 0) FROM pay_order WHERE order_no = NEW.order_no)
BEGIN SELECT raise(ABORT, 'no more is refunded than was paid'); END;
CREATE TABLE IF NOT EXISTS notice (
  order_no TEXT PRIMARY KEY REFERENCES pay_order, attempts INTEGER NOT NULL DEFAULT 0, acknowledged_at TEXT
) STRICT;
"""

_Number = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{6,64}$")]
_Fen = Annotated[int, Field(strict=True, gt=0, le=FEN_MAX)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Amount(_Asked):
    total: _Fen
    currency: Literal["CNY"]


class _NewOrder(_Asked):
    mchid: str
    out_trade_no: _Number
    description: Annotated[str, StringConstraints(min_length=1, max_length=127)]
    method: Literal["wechat", "alipay"]
    amount: _Amount
    time_expire: AwareDatetime
    notify_url: Annotated[str, StringConstraints(pattern=r"^https?://\S{1,500}$")]


class _RefundAmount(_Asked):
    refund: _Fen
    currency: Literal["CNY"]


class _NewRefund(_Asked):
    mchid: str
    out_refund_no: _Number
    out_trade_no: _Number
    amount: _RefundAmount


class _Payment(_Asked):
    amount_fen: _Fen | None = None


class Channel:
    """What the channel believes, and its doors."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.party: Party = Party(settings, SCHEMA, self.believes, lifespan=self._lifespan)
        self._mchid = settings.key_id
        self._telling: set[asyncio.Task[None]] = set()
        self._merchant_doors()
        self._family_doors()
        self._operator_doors()

    def believes(self) -> dict[str, Any]:
        """Return everything the channel believes."""
        orders = self.party.rows("SELECT * FROM pay_order ORDER BY rowid")
        refunds = self.party.rows("SELECT * FROM refund ORDER BY rowid")
        return {
            "orders": orders,
            "refunds": [{**one, "state": _refund_state(one)} for one in refunds],
            "notices": self.party.rows("SELECT * FROM notice ORDER BY rowid"),
            "sums": {
                "paid_fen": sum(one["paid_fen"] or 0 for one in orders),
                "refunded_fen": sum(one["amount_fen"] for one in refunds if not one["failed"]),
            },
        }

    # ---- the merchant ------------------------------------------------------------------------------------------------

    def _merchant_doors(self) -> None:
        app, party = self.party.app, self.party

        @app.post("/v3/orders")
        async def create(request: Request) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "create", lambda: self.create(letter))

        @app.get("/v3/orders/{order_no}")
        async def query(request: Request, order_no: str) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "query", lambda: self._shown(self._order(order_no)))

        @app.post("/v3/orders/{order_no}/close")
        async def close(request: Request, order_no: str) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "close", lambda: self.close(order_no))

        @app.post("/v3/refunds")
        async def refund(request: Request) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "refund", lambda: self.refund(letter))

        @app.get("/v3/refunds/{refund_no}")
        async def query_refund(request: Request, refund_no: str) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "query_refund", lambda: self._shown_refund(refund_no))

        @app.get("/v3/statements/{day}")
        async def statement(request: Request, day: str) -> Response:
            letter = await party.receive(request)
            return await party.answer(letter, "statement", lambda: self.statement(day))

    def _order(self, order_no: str) -> dict[str, Any]:
        found = self.party.row("SELECT * FROM pay_order WHERE order_no = ?", order_no)
        if found is None:
            raise Refused("ORDER_NOT_EXIST", "There is no such order.", 404)
        return found

    def create(self, letter: Letter) -> dict[str, Any]:
        """Make an order; the same again is the same, another one under its number is refused."""
        asked = read(_NewOrder, letter)
        if asked.mchid != self._mchid:
            raise Refused("NO_AUTH", "This is another merchant's.", 403)
        values = (
            asked.amount.total,
            asked.method,
            asked.description,
            asked.time_expire.astimezone(UTC).isoformat(),
            asked.notify_url,
        )
        self.party.truth.execute(
            "INSERT OR IGNORE INTO pay_order (order_no, amount_fen, method, description, expires_at, notify_url, token)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (asked.out_trade_no, *values, token_urlsafe(16)),
        )
        order = self._order(asked.out_trade_no)
        known = tuple(order[name] for name in ("amount_fen", "method", "description", "expires_at", "notify_url"))
        if known != values:
            raise Refused("OUT_TRADE_NO_USED", "This number belongs to another order.")
        if order["state"] == "CLOSED":
            raise Refused("ORDER_CLOSED", "This order was closed.")
        url = self.party.settings.page_url(f"/sim/pay/{order['token']}")
        return {"mchid": self._mchid, "out_trade_no": asked.out_trade_no, "code_url": url}

    def close(self, order_no: str) -> dict[str, Any]:
        """Close an order nobody paid; one that was paid stays paid."""
        self._order(order_no)
        self.party.truth.execute(
            "UPDATE pay_order SET state = 'CLOSED' WHERE order_no = ? AND state = 'NOTPAY'", (order_no,)
        )
        return self._shown(self._order(order_no))

    def _shown(self, order: dict[str, Any]) -> dict[str, Any]:
        shown = {
            "mchid": self._mchid,
            "out_trade_no": order["order_no"],
            "trade_state": order["state"],
            "amount": {"total": order["amount_fen"], "currency": "CNY"},
        }
        if order["state"] == "SUCCESS":
            shown["amount"]["payer_total"] = order["paid_fen"]
            shown |= {"transaction_id": order["transaction_id"], "success_time": order["paid_at"]}
        return shown

    def refund(self, letter: Letter) -> dict[str, Any]:
        """Give money back; the same refund again is the same, and all together are never more than was paid."""
        asked = read(_NewRefund, letter)
        if asked.mchid != self._mchid:
            raise Refused("NO_AUTH", "This is another merchant's.", 403)
        known = self.party.row("SELECT * FROM refund WHERE refund_no = ?", asked.out_refund_no)
        if known is not None:
            if (known["order_no"], known["amount_fen"]) != (asked.out_trade_no, asked.amount.refund):
                raise Refused("OUT_REFUND_NO_USED", "This number belongs to another refund.")
            return self._shown_refund(asked.out_refund_no)
        order = self._order(asked.out_trade_no)
        if order["state"] != "SUCCESS":
            raise Refused("TRADE_STATE_ERROR", "This order was not paid.")
        before = self.party.rows("SELECT amount_fen FROM refund WHERE order_no = ? AND NOT failed", order["order_no"])
        if sum(one["amount_fen"] for one in before) + asked.amount.refund > order["paid_fen"]:
            raise Refused("NOT_ENOUGH", "No more is given back than was paid.")
        at = datetime.now(UTC)
        done_at = at + timedelta(seconds=self.party.settings.refund_seconds / self.party.settings.speed)
        self.party.truth.execute(
            "INSERT INTO refund VALUES (?, ?, ?, ?, ?, 0)",
            (asked.out_refund_no, order["order_no"], asked.amount.refund, at.isoformat(), done_at.isoformat()),
        )
        return self._shown_refund(asked.out_refund_no)

    def _shown_refund(self, refund_no: str) -> dict[str, Any]:
        found = self.party.row("SELECT * FROM refund WHERE refund_no = ?", refund_no)
        if found is None:
            raise Refused("REFUND_NOT_EXIST", "There is no such refund.", 404)
        return {
            "mchid": self._mchid,
            "out_refund_no": refund_no,
            "out_trade_no": found["order_no"],
            "status": _refund_state(found),
            "amount": {"refund": found["amount_fen"], "currency": "CNY"},
        }

    def statement(self, day: str) -> dict[str, Any]:
        """Return what was paid and refunded on a business day of the hospital's zone; a refund that failed never was."""
        paid = self.party.rows(
            "SELECT order_no, transaction_id, paid_fen AS fen, paid_at AS at, NULL AS refund_no FROM pay_order"
            " WHERE state = 'SUCCESS' ORDER BY paid_at, order_no"
        )
        refunded = self.party.rows(
            "SELECT order_no, transaction_id, refund.amount_fen AS fen, at, refund_no"
            " FROM refund JOIN pay_order USING (order_no) WHERE NOT failed ORDER BY at, refund_no"
        )
        rows = [one for one in (*paid, *refunded) if self.party.day_of(one["at"]).isoformat() == day]
        return {
            "mchid": self._mchid,
            "date": day,
            "payments_total": sum(one["fen"] for one in rows if one["refund_no"] is None),
            "refunds_total": sum(one["fen"] for one in rows if one["refund_no"] is not None),
            "rows": [
                {
                    "out_trade_no": one["order_no"],
                    "transaction_id": one["transaction_id"],
                    "out_refund_no": one["refund_no"],
                    "amount": one["fen"],
                    "time": one["at"],
                }
                for one in rows
            ],
        }

    # ---- the family --------------------------------------------------------------------------------------------------

    def _family_doors(self) -> None:
        @self.party.app.get("/sim/pay/{token}")
        async def show(token: str) -> Response:
            return page(self.party.row("SELECT * FROM pay_order WHERE token = ?", token))

        @self.party.app.post("/sim/pay/{token}")
        async def press(token: str) -> Response:
            order = self.party.row("SELECT * FROM pay_order WHERE token = ?", token)
            if order is not None:
                self.pay(order, None)
            return Response(status_code=303, headers={"Location": f"/sim/pay/{token}", "Cache-Control": "no-store"})

    def pay(self, order: dict[str, Any], amount_fen: int | None) -> bool:
        """Take the money once, from an order that is open and not expired, and tell the merchant; say whether it is paid."""
        now = datetime.now(UTC)
        if order["state"] == "NOTPAY" and now < datetime.fromisoformat(order["expires_at"]):
            with self.party.truth as truth:
                truth.execute(
                    "UPDATE pay_order SET state = 'SUCCESS', paid_fen = ?, transaction_id = ?, paid_at = ?"
                    " WHERE order_no = ?",
                    (amount_fen or order["amount_fen"], f"42{token_hex(13)}", now.isoformat(), order["order_no"]),
                )
                truth.execute("INSERT INTO notice (order_no) VALUES (?)", (order["order_no"],))
            self._tell_later(order["order_no"])
            return True
        return bool(order["state"] == "SUCCESS")

    # ---- the operator ------------------------------------------------------------------------------------------------

    def _operator_doors(self) -> None:
        @self.party.admin.post("/orders/{order_no}/pay")
        async def pay(order_no: str, payment: _Payment | None = None) -> dict[str, Any]:
            order = self.party.row("SELECT * FROM pay_order WHERE order_no = ?", order_no)
            if order is None:
                raise HTTPException(404)
            if not self.pay(order, None if payment is None else payment.amount_fen):
                raise HTTPException(409)
            return self._shown(self._order(order_no))

        @self.party.admin.post("/refunds/{refund_no}/fail")
        async def fail(refund_no: str) -> dict[str, Any]:
            with self.party.truth as truth:
                if truth.execute("UPDATE refund SET failed = 1 WHERE refund_no = ?", (refund_no,)).rowcount == 0:
                    raise HTTPException(404)
            return self._shown_refund(refund_no)

    # ---- notices -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        for notice in self.party.rows("SELECT order_no FROM notice WHERE acknowledged_at IS NULL"):
            self._tell_later(notice["order_no"])
        yield
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    def _tell_later(self, order_no: str) -> None:
        task = asyncio.create_task(self._tell(order_no))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, order_no: str) -> None:
        """Tell the merchant until it says 200 or 204 or the schedule ends; a restart goes on where it was."""
        async with httpx2.AsyncClient(timeout=NOTICE_SECONDS_MAX, trust_env=False) as client:
            while True:
                notice = self.party.row("SELECT * FROM notice WHERE order_no = ?", order_no)
                if notice is None or notice["attempts"] > len(REPEAT_SECONDS):
                    return
                if notice["attempts"] > 0:
                    await asyncio.sleep(REPEAT_SECONDS[notice["attempts"] - 1] / self.party.settings.speed)
                heard = await self._tell_once(client, self._order(order_no))
                with self.party.truth as truth:
                    truth.execute("UPDATE notice SET attempts = attempts + 1 WHERE order_no = ?", (order_no,))
                    if heard:
                        truth.execute(
                            "UPDATE notice SET acknowledged_at = ? WHERE order_no = ?", (now_text(), order_no)
                        )
                        return

    async def _tell_once(self, client: httpx2.AsyncClient, order: dict[str, Any]) -> bool:
        """Send one notice, or misbehave as planned, and say whether it was acknowledged."""
        fault = self.party.faults.take("notice")
        body = {
            "id": token_hex(16),
            "create_time": now_text(),
            "event_type": "TRANSACTION.SUCCESS",
            "resource": self._shown(order),
        }
        kind = None if fault is None else fault.fault
        if kind in ("silent_before", "error", "drop", "timeout_after_success"):
            return False
        if fault is not None and kind == "late":
            await asyncio.sleep(fault.seconds)
        if fault is not None and kind == "contradict":
            body = _contradicting(body, fault)
        headers, content = self.party.signed_notice(body, forged=kind == "forged")
        heard = await self._post(client, order["notify_url"], headers, content)
        if kind == "duplicate":
            # The same letter again, as a network does it, and the same news in a new letter, as the channel does it.
            heard = await self._post(client, order["notify_url"], headers, content) and heard
            headers, content = self.party.signed_notice(body)
            heard = await self._post(client, order["notify_url"], headers, content) and heard
        return heard

    async def _post(self, client: httpx2.AsyncClient, url: str, headers: dict[str, str], content: bytes) -> bool:
        try:
            answer = await client.post(url, content=content, headers={**headers, "Content-Type": "application/json"})
        except httpx2.HTTPError:
            return False
        return answer.status_code in (200, 204)


def _contradicting(body: dict[str, Any], fault: Fault) -> dict[str, Any]:
    if fault.how != "refused":
        changed: dict[str, Any] = one_fen_more(body)
        return changed
    order = {name: value for name, value in body["resource"].items() if name not in ("transaction_id", "success_time")}
    unpaid = {"total": order["amount"]["total"], "currency": "CNY"}
    return {**body, "resource": {**order, "trade_state": "CLOSED", "amount": unpaid}}


def _refund_state(refund: dict[str, Any]) -> str:
    if refund["failed"]:
        return "ABNORMAL"
    return "PROCESSING" if datetime.now(UTC) < datetime.fromisoformat(refund["done_at"]) else "SUCCESS"


if __name__ == "__main__":
    Channel(SimulatorSettings()).party.run()
