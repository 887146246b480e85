"""The national insurance interface (医保接口): one JSON envelope per trade (交易), amounts with two decimals (16,2).

    register_stay 1101, 2401, where it was registered before 5201
    leave 2402                  cancel_leave 2405      cancel_stay 2404
    upload_lines  2301          withdraw_lines 2302    pre_settle 2303       settle 2304
    find_settlement 5203        reverse_settlement 2305                      reverse_unknown 2601
    reconcile 3201              by itself: sign in 9001, sign out 9002

Provinces differ in how a letter is signed and in some fields; that is this file and the one that signs. Fields the national
lists do not have: `omsgid` in 5203, `feedetl_cnt` and `payer_sumamt` in answers. The number of a trade (`msgid`) comes from
who calls and is never made anew here, so that a repetition is one and the same trade; only reading (1101, 5201) and signing in
get numbers of their own. More lines than one letter takes go in several, the further ones under `msgid.2`, `msgid.3` …
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

from pydantic import Field, model_validator

from services.billing.outside.calls import Caller, DecimalFen, Form
from services.billing.outside.wire import decimal_text
from services.billing.ports import (
    Declined,
    Done,
    FeeLine,
    FundDay,
    InsuredStay,
    Outcome,
    PayerSettlement,
    Split,
    Unknown,
)

LINES_MAX = 100
"""Most lines the interface takes in one 2301 or 2302."""
NOT_SIGNED_IN = 1001
REGISTERED_BEFORE = 2003
_VERSION = "V1.0"
_SYSTEM = "WARDSTREAM"
"""Who asks, for the fund: no member of staff is named outside the hospital."""


class _Reply(Form):
    infcode: int
    output: dict[str, Any] | None = None


class _SignIn(Form):
    sign_no: str


class _Insured(Form):
    insutype: str


class _Person(Form):
    insuinfo: Annotated[tuple[_Insured, ...], Field(min_length=1)]


class _Stay(Form):
    mdtrt_id: str


class _Registered(Form):
    result: _Stay


class _KnownStay(Form):
    mdtrt_id: str
    ipt_otp_no: str


class _KnownStays(Form):
    mdtrtinfo: tuple[_KnownStay, ...]


class _Held(Form):
    feedetl_cnt: int


class _Shares(Form):
    mdtrt_id: str
    setl_id: str = ""
    medfee_sumamt: DecimalFen
    fund_pay_sumamt: DecimalFen
    acct_pay: DecimalFen
    psn_cash_pay: DecimalFen

    @model_validator(mode="after")
    def _parts_are_the_whole(self) -> Self:
        try:
            self.split()
        except ArithmeticError as error:
            raise ValueError(str(error)) from None
        return self

    def split(self) -> Split:
        """Return who pays what."""
        return Split(self.medfee_sumamt, self.fund_pay_sumamt, self.acct_pay, self.psn_cash_pay)


class _Settled(Form):
    setlinfo: _Shares


class _Found(Form):
    setlinfo: _Shares | None


class _Totals(Form):
    stmt_rslt: int
    fixmedins_setl_cnt: int
    payer_sumamt: DecimalFen


class _Day(Form):
    stmtinfo: _Totals


class _Session(Form):
    signinoutb: _SignIn


class NationalInsurance:
    """The insurance fund as the port wants it (ports.InsuranceGateway)."""

    def __init__(self, caller: Caller, *, area: str) -> None:
        self._caller = caller
        self._area = area
        self._sign_no: str | None = None
        self._signing_in = asyncio.Lock()

    async def close(self) -> None:
        """Sign out (9002), whether the fund hears it or not, and close every connection."""
        if self._sign_no is not None:
            await self._send("9002", uuid4().hex, {"signOut": {"sign_no": self._sign_no}}, self._sign_no)
            self._sign_no = None
        await self._caller.close()

    async def register_stay(self, msgid: str, stay: InsuredStay) -> Outcome[str]:
        """Register the stay (1101, then 2401) and return the fund's `mdtrt_id`; one it knows already is looked up (5201)."""
        asked = {"psn_no": stay.psn_no, "begntime": _instant(stay.admitted_at)}
        found = await self._trade("1101", uuid4().hex, {"data": asked})
        if not isinstance(found, Done):
            return found
        person = self._caller.read("1101", _Person, found.value)
        if isinstance(person, Unknown):
            return person
        admitted = {
            "psn_no": stay.psn_no,
            "insutype": person.insuinfo[0].insutype,
            "begntime": _instant(stay.admitted_at),
            "med_type": "21",
            "ipt_no": str(stay.encounter_id),
            "adm_dept_codg": stay.ward or "",
            "adm_bed": stay.bed or "",
        }
        outcome = await self._trade("2401", msgid, {"mdtrtinfo": admitted, "diseinfo": []})
        if outcome == Declined(str(REGISTERED_BEFORE)):
            return await self._find_stay(stay)
        if not isinstance(outcome, Done):
            return outcome
        registered = self._caller.read("2401", _Registered, outcome.value)
        return registered if isinstance(registered, Unknown) else Done(registered.result.mdtrt_id)

    async def _find_stay(self, stay: InsuredStay) -> Outcome[str]:
        outcome = await self._trade("5201", uuid4().hex, {"data": {"psn_no": stay.psn_no}})
        if not isinstance(outcome, Done):
            return outcome
        known = self._caller.read("5201", _KnownStays, outcome.value)
        if isinstance(known, Unknown):
            return known
        found = [one.mdtrt_id for one in known.mdtrtinfo if one.ipt_otp_no == str(stay.encounter_id)]
        return Done(found[0]) if found else Declined(str(REGISTERED_BEFORE))

    async def cancel_stay(self, msgid: str, mdtrt_id: str) -> Outcome[None]:
        """Take the registration back (2404)."""
        return await self._plain("2404", msgid, {"data": {"mdtrt_id": mdtrt_id}})

    async def leave(self, msgid: str, mdtrt_id: str, at: datetime) -> Outcome[None]:
        """Tell the fund that the patient left (2402)."""
        left = {"mdtrt_id": mdtrt_id, "endtime": _instant(at)}
        return await self._plain("2402", msgid, {"dscginfo": left, "diseinfo": []})

    async def cancel_leave(self, msgid: str, mdtrt_id: str) -> Outcome[None]:
        """Take the leaving back (2405)."""
        return await self._plain("2405", msgid, {"data": {"mdtrt_id": mdtrt_id}})

    async def upload_lines(self, msgid: str, mdtrt_id: str, lines: Sequence[FeeLine]) -> Outcome[int]:
        """Upload charge lines (2301) and return how many the fund now holds."""
        details = [
            {
                "feedetl_sn": str(line.entry_id),
                "mdtrt_id": mdtrt_id,
                "fee_ocur_time": _instant(line.at),
                "medins_list_codg": line.item,
                "det_item_fee_sumamt": decimal_text(line.amount_fen),
            }
            for line in lines
        ]
        return await self._counted("2301", msgid, "feedetail", details)

    async def withdraw_lines(self, msgid: str, mdtrt_id: str, entry_ids: Sequence[UUID]) -> Outcome[int]:
        """Withdraw uploaded lines (2302) and return how many the fund still holds."""
        data = [{"feedetl_sn": str(entry_id), "mdtrt_id": mdtrt_id} for entry_id in entry_ids]
        return await self._counted("2302", msgid, "data", data)

    async def pre_settle(self, msgid: str, mdtrt_id: str, charged_fen: int) -> Outcome[Split]:
        """Ask who would pay what of the uploaded lines (2303)."""
        asked = {"mdtrt_id": mdtrt_id, "medfee_sumamt": decimal_text(charged_fen)}
        outcome = await self._trade("2303", msgid, {"data": asked})
        if not isinstance(outcome, Done):
            return outcome
        told = self._caller.read(
            "2303", _Settled, outcome.value, lambda told: _is_of(told.setlinfo, mdtrt_id, charged_fen)
        )
        return told if isinstance(told, Unknown) else Done(told.setlinfo.split())

    async def settle(
        self, msgid: str, mdtrt_id: str, charged_fen: int, *, interim: bool = False
    ) -> Outcome[PayerSettlement]:
        """Settle with the fund (2304); an answer about another sum or stay is not believed, but asked about (R53)."""
        asked = {
            "mdtrt_id": mdtrt_id,
            "medfee_sumamt": decimal_text(charged_fen),
            "mid_setl_flag": "1" if interim else "0",
        }
        outcome = await self._trade("2304", msgid, {"data": asked})
        if not isinstance(outcome, Done):
            return outcome
        told = self._caller.read(
            "2304",
            _Settled,
            outcome.value,
            lambda told: _is_of(told.setlinfo, mdtrt_id, charged_fen) and told.setlinfo.setl_id != "",
        )
        if isinstance(told, Unknown):
            return told
        return Done(PayerSettlement(told.setlinfo.setl_id, told.setlinfo.split()))

    async def find_settlement(self, msgid: str, mdtrt_id: str, of_msgid: str) -> Outcome[PayerSettlement | None]:
        """Ask what came of the 2304 sent as `of_msgid` (5203)."""
        outcome = await self._trade("5203", msgid, {"data": {"mdtrt_id": mdtrt_id, "omsgid": of_msgid}})
        if not isinstance(outcome, Done):
            return outcome
        told = self._caller.read(
            "5203",
            _Found,
            outcome.value,
            lambda told: told.setlinfo is None or (told.setlinfo.mdtrt_id == mdtrt_id and told.setlinfo.setl_id != ""),
        )
        if isinstance(told, Unknown):
            return told
        return Done(None if told.setlinfo is None else PayerSettlement(told.setlinfo.setl_id, told.setlinfo.split()))

    async def reverse_settlement(self, msgid: str, mdtrt_id: str, setl_id: str) -> Outcome[None]:
        """Take a settlement back (2305)."""
        return await self._plain("2305", msgid, {"data": {"mdtrt_id": mdtrt_id, "setl_id": setl_id}})

    async def reverse_unknown(self, msgid: str, mdtrt_id: str, of_trade: str, of_msgid: str) -> Outcome[None]:
        """Make sure that a trade whose outcome is unknown never counts (冲正, 2601), however late it may still arrive."""
        asked = {"mdtrt_id": mdtrt_id, "oinfno": of_trade, "omsgid": of_msgid}
        return await self._plain("2601", msgid, {"data": asked})

    async def reconcile(self, msgid: str, day: date, settlements: int, payer_fen: int) -> Outcome[FundDay]:
        """Compare one business day with the fund (3201): settlements made less those taken back that day."""
        ours = {
            "stmt_begndate": day.isoformat(),
            "stmt_enddate": day.isoformat(),
            "fixmedins_setl_cnt": settlements,
            "payer_sumamt": decimal_text(payer_fen),
        }
        outcome = await self._trade("3201", msgid, {"data": ours})
        if not isinstance(outcome, Done):
            return outcome
        told = self._caller.read(
            "3201",
            _Day,
            outcome.value,
            lambda told: (told.stmtinfo.stmt_rslt == 0) == _same(told.stmtinfo, settlements, payer_fen),
        )
        if isinstance(told, Unknown):
            return told
        theirs = told.stmtinfo
        return Done(FundDay(_same(theirs, settlements, payer_fen), theirs.fixmedins_setl_cnt, theirs.payer_sumamt))

    # ---- trades ------------------------------------------------------------------------------------------------------

    async def _plain(self, infno: str, msgid: str, given: Mapping[str, Any]) -> Outcome[None]:
        outcome = await self._trade(infno, msgid, given)
        return Done(None) if isinstance(outcome, Done) else outcome

    async def _counted(self, infno: str, msgid: str, name: str, lines: Sequence[Mapping[str, str]]) -> Outcome[int]:
        """Send lines in as many letters as they need, one after the other; the first that is not done ends it."""
        counted: Outcome[int] = Done(0)
        for number, first in enumerate(range(0, max(len(lines), 1), LINES_MAX), 1):
            part = msgid if number == 1 else f"{msgid}.{number}"
            outcome = await self._trade(infno, part, {name: lines[first : first + LINES_MAX]})
            if not isinstance(outcome, Done):
                return outcome
            held = self._caller.read(infno, _Held, outcome.value)
            if isinstance(held, Unknown):
                return held
            counted = Done(held.feedetl_cnt)
        return counted

    async def _trade(self, infno: str, msgid: str, given: Mapping[str, Any]) -> Outcome[dict[str, Any]]:
        """Do one trade; who is told that the signing in is over signs in and repeats it, for it was not done."""
        outcome: Outcome[dict[str, Any]] = Declined(str(NOT_SIGNED_IN))
        for _ in range(2):
            sign_no = await self._signed_in()
            if not isinstance(sign_no, str):
                return sign_no
            outcome = await self._send(infno, msgid, given, sign_no)
            if outcome != Declined(str(NOT_SIGNED_IN)):
                break
            if self._sign_no == sign_no:
                self._sign_no = None
        return outcome

    async def _signed_in(self) -> str | Declined | Unknown:
        """Return the number of our signing in (9001), which is asked for once however many trades wait for it."""
        async with self._signing_in:
            if self._sign_no is None:
                outcome = await self._send("9001", uuid4().hex, {"signIn": {"opter_no": _SYSTEM}}, "")
                if not isinstance(outcome, Done):
                    return outcome
                told = self._caller.read("9001", _Session, outcome.value)
                if isinstance(told, Unknown):
                    return told
                self._sign_no = told.signinoutb.sign_no
            return self._sign_no

    async def _send(self, infno: str, msgid: str, given: Mapping[str, Any], sign_no: str) -> Outcome[dict[str, Any]]:
        envelope = {
            "infno": infno,
            "msgid": msgid,
            "mdtrtarea_admvs": self._area,
            "insuplc_admdvs": self._area,
            "recer_sys_code": _SYSTEM,
            "dev_no": "",
            "cainfo": "",
            "signtype": "HMAC-SHA256",
            "infver": _VERSION,
            "opter_type": "2",
            "opter": _SYSTEM,
            "opter_name": _SYSTEM,
            "inf_time": _instant(datetime.now(UTC)),
            "fixmedins_code": self._caller.party.key_id,
            "sign_no": sign_no,
            "input": given,
        }
        reply = await self._caller.ask(infno, "POST", "/api/trades", envelope, _Reply)
        if not isinstance(reply, _Reply):
            return reply
        return Declined(str(reply.infcode)) if reply.infcode != 0 else Done(reply.output or {})


def _is_of(shares: _Shares, mdtrt_id: str, charged_fen: int) -> bool:
    """Say whether the fund speaks of this stay and this sum."""
    return (shares.mdtrt_id, shares.medfee_sumamt) == (mdtrt_id, charged_fen)


def _same(theirs: _Totals, settlements: int, payer_fen: int) -> bool:
    return (theirs.fixmedins_setl_cnt, theirs.payer_sumamt) == (settlements, payer_fen)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
