"""Doors of the papers under /api/billing: PDF of what the ledger says, for who may see the account; each look is recorded (S3).

The account is read in one statement, the PDF made after the transaction is over. Parameters nobody knows are refused, a name
above all: the paper shows what the ledger vouches for.
"""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Literal, NoReturn
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import StringConstraints

from services.billing import papers_store, store
from services.billing.api_prices import Day
from services.billing.api_refusals import check_ward, refuse
from services.billing.documents.model import Document, Letterhead
from services.billing.documents.render import NotPrinted, Press
from services.billing.documents.words import Language
from services.billing.domain import NoAccount
from services.billing.papers import (
    Facts,
    NoReceiptYet,
    NoSettlementYet,
    NoSuchDeposit,
    PaperRefusal,
    Printer,
    WrittenOff,
)
from shared.access.policy import Permission
from shared.db import Transaction
from shared.errors import BadRequest, NotFound, Refused, Unavailable
from shared.web import PROBLEM_RESPONSES, Answered, Body, Caller, Door

WAITING_MAX = 8
"""How many papers may wait for the press; more would only wait until their readers are gone."""
AskedLanguage = Annotated[Language, Query(alias="language", description="zh-CN or en.")]
Make = Callable[[Printer, Facts], Document | PaperRefusal]


class PaymentGroup(Body):
    """The group by which the fund pays the stay, as the coding office worked it out (R61)."""

    scheme: Literal["drg", "dip"]
    code: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9.:+-]{1,39}$")]


class PressRoom:
    """The one press of the service, with a limited queue."""

    def __init__(self, letterhead: Letterhead, *, waiting_max: int = WAITING_MAX) -> None:
        self.letterhead = letterhead
        self._press = Press()
        self._waiting = 0
        self._waiting_max = waiting_max

    def check_free(self) -> None:
        """Refuse what would have to wait too long.

        Raises:
            Unavailable: so many papers wait already.
        """
        if self._waiting >= self._waiting_max:
            raise Unavailable("Too many papers are being made; ask again.", code="press_busy", retry_after_seconds=10)

    async def print(self, document: Document, language: Language) -> bytes:
        """Return the PDF of a document.

        Raises:
            Unavailable: it could not be made in time.
        """
        self.check_free()
        self._waiting += 1
        try:
            return await self._press.render(document, language)
        except NotPrinted:
            raise Unavailable("The paper could not be made.", code="not_printed", retry_after_seconds=10) from None
        finally:
            self._waiting -= 1


def papers_router(door: Door, room: PressRoom) -> APIRouter:
    """Return the routes of the papers."""
    routes = APIRouter(responses=PROBLEM_RESPONSES)

    async def paper(
        request: Request,
        language: Language,
        make: Make,
        *,
        encounter_id: UUID | None = None,
        entry_id: UUID | None = None,
    ) -> Response:
        if not set(request.query_params) <= {"language", "day"}:
            raise BadRequest("There is a parameter nobody knows; a name is never taken.", code="unknown_parameter")
        room.check_free()
        documents: list[Document] = []

        async def read(tx: Transaction, caller: Caller) -> Answered:
            facts = await papers_store.get_facts(tx, encounter_id=encounter_id, entry_id=entry_id)
            if facts is None:
                if entry_id is not None:
                    _refuse(NoSuchDeposit())
                refuse(NoAccount(), encounter_id or UUID(int=0))
            check_ward(caller, Permission.ACCOUNTS_READ, facts.ward, facts.encounter_id)
            made = make(Printer(room.letterhead, tx.now), facts)
            if isinstance(made, PaperRefusal):
                _refuse(made)
            documents[:] = [made]
            return Answered({}, type(made).__name__, entry_id or facts.encounter_id, facts.patient_tok)

        await door.query(request, Permission.ACCOUNTS_READ, read)
        pdf = await room.print(documents[0], language)
        return Response(pdf, media_type="application/pdf", headers={"Cache-Control": "no-store"})

    @routes.get(
        "/encounters/{encounter_id}/documents/settlement-list.pdf", summary="住院费用结算单", response_class=Response
    )
    async def get_settlement_list(request: Request, encounter_id: UUID, language: AskedLanguage = "zh-CN") -> Response:
        return await paper(request, language, lambda p, facts: p.settlement(facts), encounter_id=encounter_id)

    @routes.get(
        "/encounters/{encounter_id}/documents/itemised-list.pdf", summary="住院费用清单", response_class=Response
    )
    async def get_itemised_list(
        request: Request,
        encounter_id: UUID,
        day: Annotated[Day | None, Query(description="Of this day only (一日清单).")] = None,
        language: AskedLanguage = "zh-CN",
    ) -> Response:
        return await paper(request, language, _itemised(day), encounter_id=encounter_id)

    @routes.get("/encounters/{encounter_id}/documents/receipt.pdf", summary="电子票据", response_class=Response)
    async def get_receipt(request: Request, encounter_id: UUID, language: AskedLanguage = "zh-CN") -> Response:
        return await paper(request, language, lambda p, facts: p.receipt(facts), encounter_id=encounter_id)

    @routes.get(
        "/encounters/{encounter_id}/documents/discharge-pack.pdf", summary="出院资料包", response_class=Response
    )
    async def get_discharge_pack(request: Request, encounter_id: UUID, language: AskedLanguage = "zh-CN") -> Response:
        return await paper(request, language, lambda p, facts: p.pack(facts), encounter_id=encounter_id)

    @routes.get("/deposits/{entry_id}/slip.pdf", summary="预交金收据", response_class=Response)
    async def get_slip(request: Request, entry_id: UUID, language: AskedLanguage = "zh-CN") -> Response:
        return await paper(request, language, lambda p, facts: p.slip(facts, entry_id), entry_id=entry_id)

    @routes.post("/encounters/{encounter_id}/payment-group", summary="Note the DRG or DIP group of a stay (病种分组)")
    async def post_payment_group(request: Request, encounter_id: UUID, body: PaymentGroup) -> Response:
        async def act(tx: Transaction, caller: Caller) -> Answered:
            tx.correlation_id = encounter_id
            account = await store.lock_account(tx, encounter_id)
            if account is None:
                refuse(NoAccount(), encounter_id, may_open=True)
            check_ward(caller, Permission.SETTLEMENTS_SETTLE, account.ward, encounter_id)
            await papers_store.note_payment_group(tx, account.id, body.scheme, body.code)
            return Answered(
                {"account_id": account.id, **body.model_dump()}, "payment-group", account.id, account.patient_tok
            )

        return await door.command(request, Permission.SETTLEMENTS_SETTLE, act, body=body)

    return routes


def _itemised(day: date | None) -> Make:
    return lambda printer, facts: printer.itemised(facts, day)


def _refuse(refusal: PaperRefusal) -> NoReturn:
    match refusal:
        case NoSettlementYet():
            raise Refused("There is no settlement in force to print.", code="not_settled")
        case WrittenOff():
            raise Refused("Part of this bill was written off; no paper shows it as paid.", code="written_off")
        case NoReceiptYet():
            raise Refused("No electronic receipt was issued for this settlement yet.", code="no_receipt_yet")
        case NoSuchDeposit():
            raise NotFound("There is no such deposit, or it was given back.", code="no_such_deposit")
