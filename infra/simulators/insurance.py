"""The insurance fund (医保) as a server: the national JSON envelope at POST /api/trades, one trade (交易) per letter.

    9001 sign in        9002 sign out        1101 whose insurance     5201 whose stays    5203 what came of a settlement
    2401 admitted       2402 left            2403 ward or bed changed 2404 admission taken back   2405 leaving taken back
    2301 lines uploaded 2302 lines withdrawn 2303 who would pay what  2304 settled                2305 settlement taken back
    2601 a trade of unknown outcome never counts (冲正)               3201 the day compared

A trade that was done is known by its `msgid`: the same letter again gets the same answer, another letter under it is refused.
2601 also stops a letter that has not come yet. What the rules are is in shares.py; names of fields are the national ones
(`omsgid` in 5203, `feedetl_cnt` and `payer_sumamt` are additions). Signatures are in the header, so `cainfo` stays empty.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from secrets import token_hex
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from infra.simulators.party import Letter, Party, Refused, Reply, json_text, now_text, text_of
from infra.simulators.settings import SimulatorSettings
from infra.simulators.shares import Shares, rules, share
from services.billing.outside.wire import decimal_text
from shared.money import NotAnAmount, fen_from_decimal_text

LINES_MAX = 100
NOT_SIGNED_IN, REUSED, REVERSED, UNKNOWN_PERSON, UNKNOWN_STAY, WRONG_STATE = (
    "1001",
    "1002",
    "1003",
    "2001",
    "2002",
    "2003",
)
UNKNOWN_SETTLEMENT, SUM_DIFFERS, LINES_HELD, OTHER_LINE, NOT_REVERSIBLE = "2004", "2005", "2006", "2007", "2008"

SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
  sign_no TEXT PRIMARY KEY, opter TEXT NOT NULL, signed_in_at TEXT NOT NULL, signed_out_at TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS message (
  msgid TEXT PRIMARY KEY, infno TEXT NOT NULL, letter TEXT, answer TEXT, at TEXT NOT NULL, reversed_at TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS person (
  psn_no TEXT PRIMARY KEY, insutype TEXT NOT NULL, balance_fen INTEGER NOT NULL CHECK (balance_fen >= 0)
) STRICT;
CREATE TABLE IF NOT EXISTS stay (
  mdtrt_id TEXT PRIMARY KEY, msgid TEXT NOT NULL, psn_no TEXT NOT NULL REFERENCES person, ipt_no TEXT NOT NULL,
  ward TEXT NOT NULL, bed TEXT NOT NULL, begun_at TEXT NOT NULL, left_at TEXT, left_by TEXT, cancelled_at TEXT
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS stay_once ON stay (ipt_no) WHERE cancelled_at IS NULL;
CREATE TABLE IF NOT EXISTS line (
  feedetl_sn TEXT PRIMARY KEY, mdtrt_id TEXT NOT NULL REFERENCES stay, item TEXT NOT NULL, level TEXT NOT NULL,
  amount_fen INTEGER NOT NULL, at TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS settlement (
  setl_id TEXT PRIMARY KEY, mdtrt_id TEXT NOT NULL REFERENCES stay, msgid TEXT NOT NULL UNIQUE,
  total_fen INTEGER NOT NULL, out_of_scope_fen INTEGER NOT NULL, deductible_fen INTEGER NOT NULL,
  fund_fen INTEGER NOT NULL CHECK (fund_fen >= 0), account_fen INTEGER NOT NULL CHECK (account_fen >= 0),
  cash_fen INTEGER NOT NULL CHECK (cash_fen >= 0), balance_fen INTEGER NOT NULL, at TEXT NOT NULL,
  taken_back_at TEXT, taken_back_by TEXT, void INTEGER NOT NULL DEFAULT 0,
  CHECK (fund_fen + account_fen + cash_fen = total_fen)
) STRICT;
DROP INDEX IF EXISTS settlement_once;
CREATE TABLE IF NOT EXISTS interim_line (
  setl_id TEXT NOT NULL REFERENCES settlement, feedetl_sn TEXT NOT NULL, PRIMARY KEY (setl_id, feedetl_sn)
) STRICT;
CREATE VIEW IF NOT EXISTS settled_before AS
  SELECT feedetl_sn FROM interim_line JOIN settlement USING (setl_id) WHERE taken_back_at IS NULL;
"""

_Text = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]


class Envelope(BaseModel):
    """What surrounds every trade."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    infno: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}$")]
    msgid: _Text
    mdtrtarea_admvs: str
    insuplc_admdvs: str
    recer_sys_code: str
    dev_no: str
    cainfo: str
    signtype: str
    infver: str
    opter_type: str
    opter: str
    opter_name: str
    inf_time: str
    fixmedins_code: str
    sign_no: str
    input: dict[str, Any]


def says_no(refused: Refused) -> Reply:
    """Return how the fund says no: in its own envelope, not as an HTTP status."""
    code = int(refused.code)
    return Reply(200, {"infcode": code, "err_msg": refused.why, "refmsg_time": now_text(), "output": None})


class Fund:
    """What the fund believes, and the trades that change it."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.party = Party(settings, SCHEMA, self.believes, says_no)
        self._reads: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "1101": self.whose_insurance,
            "2303": self.pre_settle,
            "3201": self.compare_day,
            "5201": self.find_stays,
            "5203": self.find_settlement,
        }
        self._changes: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
            "2301": self.upload,
            "2302": self.withdraw,
            "2304": self.settle,
            "2305": self.take_settlement_back,
            "2401": self.admit,
            "2402": self.leave,
            "2403": self.change,
            "2404": self.cancel_admission,
            "2405": self.cancel_leaving,
            "2601": self.reverse,
        }

        @self.party.app.post("/api/trades")
        async def trade(request: Request) -> Response:
            letter = await self.party.receive(request)
            return await self.party.answer(letter, str(letter.body.get("infno", "")), partial(self.trade, letter))

    def believes(self) -> dict[str, Any]:
        """Return everything the fund believes."""
        rows = self.party.rows
        settlements = rows("SELECT * FROM settlement ORDER BY at, setl_id")
        in_force = [one for one in settlements if one["taken_back_at"] is None]
        return {
            "persons": rows("SELECT * FROM person ORDER BY psn_no"),
            "stays": rows("SELECT * FROM stay ORDER BY begun_at, mdtrt_id"),
            "lines": rows("SELECT * FROM line ORDER BY at, feedetl_sn"),
            "settlements": settlements,
            "messages": rows("SELECT msgid, infno, at, reversed_at FROM message ORDER BY at"),
            "sums": {
                "settlements_in_force": len(in_force),
                **{
                    f"{part}_fen": sum(one[f"{part}_fen"] for one in in_force)
                    for part in ("total", "fund", "account", "cash")
                },
            },
        }

    # ---- one trade ---------------------------------------------------------------------------------------------------

    def trade(self, letter: Letter) -> dict[str, Any]:
        """Do one trade once and return the fund's envelope.

        Raises:
            Refused: the fund says no, nothing changed.
        """
        try:
            envelope = Envelope.model_validate(letter.body)
        except ValidationError:
            raise Refused("-1", "The envelope is not complete.") from None
        if envelope.fixmedins_code != self.party.settings.key_id:
            raise Refused("-1", "The letter is signed by another hospital.")
        return {
            "infcode": 0,
            "inf_refmsgid": token_hex(15),
            "refmsg_time": now_text(),
            "err_msg": "",
            "output": self._output(envelope),
        }

    def _output(self, envelope: Envelope) -> dict[str, Any]:
        if envelope.infno == "9001":
            return self._sign_in(envelope.input)
        self._check_session(envelope.sign_no)
        if envelope.infno == "9002":
            return self._sign_out(envelope.sign_no)
        if envelope.infno in self._reads:
            return self._reads[envelope.infno](envelope.input)
        change = self._changes.get(envelope.infno)
        if change is None:
            raise Refused("-1", "There is no such trade here.")
        return self._once(envelope, change)

    def _once(self, envelope: Envelope, change: Callable[[dict[str, Any], str], dict[str, Any]]) -> dict[str, Any]:
        """Do a change once for its msgid; a refusal leaves no mark, so that it may be asked again."""
        text = hashlib.sha256(json_text(envelope.input).encode()).hexdigest()
        known = self.party.row("SELECT * FROM message WHERE msgid = ?", envelope.msgid)
        if known is not None and known["reversed_at"] is not None:
            raise Refused(REVERSED, "This trade was reversed (2601) and never counts.")
        if known is not None and (known["infno"], known["letter"]) != (envelope.infno, text):
            raise Refused(REUSED, "This msgid belongs to another letter.")
        if known is not None:
            stored: dict[str, Any] = json.loads(known["answer"])
            return stored
        output = change(envelope.input, envelope.msgid)
        self.party.truth.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, NULL)",
            (envelope.msgid, envelope.infno, text, json_text(output), now_text()),
        )
        return output

    # ---- signing in --------------------------------------------------------------------------------------------------

    def _sign_in(self, given: dict[str, Any]) -> dict[str, Any]:
        sign_no, at = token_hex(10), now_text()
        opter = text_of(given.get("signIn"), "opter_no")
        self.party.truth.execute("INSERT INTO session VALUES (?, ?, ?, NULL)", (sign_no, opter, at))
        return {"signinoutb": {"sign_no": sign_no, "sign_time": at}}

    def _sign_out(self, sign_no: str) -> dict[str, Any]:
        at = now_text()
        self.party.truth.execute("UPDATE session SET signed_out_at = ? WHERE sign_no = ?", (at, sign_no))
        return {"signinoutb": {"sign_no": sign_no, "sign_time": at}}

    def _check_session(self, sign_no: str) -> None:
        """Refuse who is not signed in; a signing in lasts until the business day is over."""
        session = self.party.row("SELECT * FROM session WHERE sign_no = ? AND signed_out_at IS NULL", sign_no)
        if session is None or self.party.day_of(session["signed_in_at"]) != self.party.day_of(now_text()):
            raise Refused(NOT_SIGNED_IN, "Sign in first (9001).")

    # ---- people and stays --------------------------------------------------------------------------------------------

    def whose_insurance(self, given: dict[str, Any]) -> dict[str, Any]:
        """1101: what insurance a person has."""
        psn_no = text_of(given.get("data"), "psn_no")
        insutype = rules().class_of(psn_no)
        if insutype is None:
            raise Refused(UNKNOWN_PERSON, "Nobody is insured under this number.")
        known = self.party.row("SELECT * FROM person WHERE psn_no = ?", psn_no)
        balance_fen = rules().classes[insutype].account if known is None else known["balance_fen"]
        return {
            "baseinfo": {"psn_no": psn_no},
            "insuinfo": [{"insutype": insutype, "balc": decimal_text(balance_fen)}],
            "idetinfo": [],
        }

    def admit(self, given: dict[str, Any], msgid: str) -> dict[str, Any]:
        """2401: a stay begins; one that is registered already is refused."""
        told = given.get("mdtrtinfo")
        psn_no, ipt_no, begun_at = (text_of(told, name) for name in ("psn_no", "ipt_no", "begntime"))
        insutype = rules().class_of(psn_no)
        if insutype is None or text_of(told, "insutype") != insutype:
            raise Refused(UNKNOWN_PERSON, "Nobody is insured under this number in this class.")
        if self.party.row("SELECT 1 FROM stay WHERE ipt_no = ? AND cancelled_at IS NULL", ipt_no) is not None:
            raise Refused(WRONG_STATE, "This stay is registered already.")
        mdtrt_id = token_hex(12)
        execute = self.party.truth.execute
        execute("INSERT OR IGNORE INTO person VALUES (?, ?, ?)", (psn_no, insutype, rules().classes[insutype].account))
        execute(
            "INSERT INTO stay VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
            (mdtrt_id, msgid, psn_no, ipt_no, _word(told, "adm_dept_codg"), _word(told, "adm_bed"), _instant(begun_at)),
        )
        return {"result": {"mdtrt_id": mdtrt_id}}

    def find_stays(self, given: dict[str, Any]) -> dict[str, Any]:
        """5201: the stays of a person that are registered."""
        stays = self.party.rows(
            "SELECT mdtrt_id, psn_no, ipt_no AS ipt_otp_no, begun_at AS begntime FROM stay"
            " WHERE psn_no = ? AND cancelled_at IS NULL ORDER BY begun_at",
            text_of(given.get("data"), "psn_no"),
        )
        return {"mdtrtinfo": stays}

    def _stay(self, told: Any) -> dict[str, Any]:
        found = self.party.row("SELECT * FROM stay WHERE mdtrt_id = ?", text_of(told, "mdtrt_id"))
        if found is None:
            raise Refused(UNKNOWN_STAY, "There is no such stay.")
        return found

    def _live_stay(self, told: Any) -> dict[str, Any]:
        found = self._stay(told)
        if found["cancelled_at"] is not None:
            raise Refused(WRONG_STATE, "The registration of this stay was taken back.")
        return found

    def _unsettled_stay(self, told: Any) -> dict[str, Any]:
        found = self._live_stay(told)
        if self._in_force(found["mdtrt_id"]) is not None:
            raise Refused(WRONG_STATE, "The stay is settled; take the settlement back first (2305).")
        return found

    def leave(self, given: dict[str, Any], msgid: str) -> dict[str, Any]:
        """2402: the patient left."""
        told = given.get("dscginfo")
        stay = self._live_stay(told)
        self.party.truth.execute(
            "UPDATE stay SET left_at = ?, left_by = ? WHERE mdtrt_id = ?",
            (_instant(text_of(told, "endtime")), msgid, stay["mdtrt_id"]),
        )
        return {}

    def change(self, given: dict[str, Any], _msgid: str) -> dict[str, Any]:
        """2403: ward or bed changed."""
        told = given.get("adminfo")
        stay = self._unsettled_stay(told)
        self.party.truth.execute(
            "UPDATE stay SET ward = ?, bed = ? WHERE mdtrt_id = ?",
            (_word(told, "adm_dept_codg"), _word(told, "adm_bed"), stay["mdtrt_id"]),
        )
        return {}

    def cancel_admission(self, given: dict[str, Any], _msgid: str) -> dict[str, Any]:
        """2404: the admission is taken back; lines must be withdrawn before, twice is as good as once."""
        if self._stay(given.get("data"))["cancelled_at"] is None:
            self._cancel(self._unsettled_stay(given.get("data"))["mdtrt_id"])
        return {}

    def _cancel(self, mdtrt_id: str) -> None:
        if self._held(mdtrt_id):
            raise Refused(LINES_HELD, "Withdraw the lines first (2302).")
        self.party.truth.execute("UPDATE stay SET cancelled_at = ? WHERE mdtrt_id = ?", (now_text(), mdtrt_id))

    def cancel_leaving(self, given: dict[str, Any], _msgid: str) -> dict[str, Any]:
        """2405: the leaving is taken back, of an unsettled stay; twice is as good as once."""
        stay = self._unsettled_stay(given.get("data"))
        self.party.truth.execute(
            "UPDATE stay SET left_at = NULL, left_by = NULL WHERE mdtrt_id = ?", (stay["mdtrt_id"],)
        )
        return {}

    # ---- lines -------------------------------------------------------------------------------------------------------

    def _held(self, mdtrt_id: str) -> int:
        return len(self.party.rows("SELECT 1 FROM line WHERE mdtrt_id = ?", mdtrt_id))

    def upload(self, given: dict[str, Any], _msgid: str) -> dict[str, Any]:
        """2301: lines, each counted once by its number; another line under a known number is refused, with all others."""
        lines = _list(given, "feedetail")
        for told in lines:
            mdtrt_id = self._unsettled_stay(told)["mdtrt_id"]
            item, fen = text_of(told, "medins_list_codg"), _fen(told, "det_item_fee_sumamt")
            number = text_of(told, "feedetl_sn")
            known = self.party.row("SELECT * FROM line WHERE feedetl_sn = ?", number)
            if known is not None and (known["mdtrt_id"], known["item"], known["amount_fen"]) != (mdtrt_id, item, fen):
                raise Refused(OTHER_LINE, "This number belongs to another line.")
            self.party.truth.execute(
                "INSERT OR IGNORE INTO line VALUES (?, ?, ?, ?, ?, ?)",
                (number, mdtrt_id, item, rules().level_of(item), fen, _instant(text_of(told, "fee_ocur_time"))),
            )
        return {
            "result": [
                {"feedetl_sn": told["feedetl_sn"], "chrgitm_lv": rules().level_of(told["medins_list_codg"])}
                for told in lines
            ],
            "feedetl_cnt": self._held(lines[0]["mdtrt_id"]),
        }

    def withdraw(self, given: dict[str, Any], _msgid: str) -> dict[str, Any]:
        """2302: lines go; one that is not there is gone already."""
        lines = _list(given, "data")
        for told in lines:
            number = text_of(told, "feedetl_sn")
            if self.party.row("SELECT 1 FROM settled_before WHERE feedetl_sn = ?", number) is not None:
                raise Refused(WRONG_STATE, "This line is settled; take that settlement back first (2305).")
            self.party.truth.execute(
                "DELETE FROM line WHERE feedetl_sn = ? AND mdtrt_id = ?",
                (number, self._unsettled_stay(told)["mdtrt_id"]),
            )
        return {"feedetl_cnt": self._held(lines[0]["mdtrt_id"])}

    # ---- settling ----------------------------------------------------------------------------------------------------

    def _in_force(self, mdtrt_id: str) -> dict[str, Any] | None:
        """Return the settlement that ended the stay for the fund; interim ones do not."""
        return self.party.row(
            "SELECT * FROM settlement WHERE mdtrt_id = ? AND taken_back_at IS NULL"
            " AND setl_id NOT IN (SELECT setl_id FROM interim_line)",
            mdtrt_id,
        )

    def _shared(self, told: Any) -> tuple[dict[str, Any], Shares, int]:
        """Return stay, shares of its lines and what is left on the account; refused when the lines are another sum."""
        stay = self._unsettled_stay(told)
        lines = self.party.rows(
            "SELECT level, amount_fen FROM line WHERE mdtrt_id = ? AND feedetl_sn NOT IN (SELECT * FROM settled_before)",
            stay["mdtrt_id"],
        )
        if sum(line["amount_fen"] for line in lines) != _fen(told, "medfee_sumamt"):
            raise Refused(SUM_DIFFERS, "The uploaded lines are not this sum.")
        person = self.party.row("SELECT * FROM person WHERE psn_no = ?", stay["psn_no"])
        assert person is not None
        year = self.party.day_of(now_text()).year
        paid = self.party.rows(
            "SELECT fund_fen, at FROM settlement JOIN stay USING (mdtrt_id) WHERE psn_no = ? AND taken_back_at IS NULL",
            stay["psn_no"],
        )
        shares = share(
            rules().classes[person["insutype"]],
            rules().levels,
            [(line["level"], line["amount_fen"]) for line in lines],
            balance_fen=person["balance_fen"],
            paid_this_year_fen=sum(one["fund_fen"] for one in paid if self.party.day_of(one["at"]).year == year),
        )
        return stay, shares, person["balance_fen"] - shares.account_fen

    def pre_settle(self, given: dict[str, Any]) -> dict[str, Any]:
        """2303: who would pay what."""
        stay, shares, balance_fen = self._shared(given.get("data"))
        return {"setlinfo": _setlinfo(stay["mdtrt_id"], "", now_text(), shares, balance_fen)}

    def settle(self, given: dict[str, Any], msgid: str) -> dict[str, Any]:
        """2304: settled; refused when the lines are another sum or a settlement is in force.

        With `mid_setl_flag` 1 (中途结算) the stay goes on: its lines are settled, and lines that come later are not.
        """
        told = given.get("data")
        stay, shares, balance_fen = self._shared(told)
        setl_id, at = token_hex(12), now_text()
        self.party.truth.execute(
            "INSERT INTO settlement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, 0)",
            (
                setl_id,
                stay["mdtrt_id"],
                msgid,
                shares.total_fen,
                shares.out_of_scope_fen,
                shares.deductible_fen,
                shares.fund_fen,
                shares.account_fen,
                shares.cash_fen,
                balance_fen,
                at,
            ),
        )
        if isinstance(told, dict) and told.get("mid_setl_flag") == "1":
            self.party.truth.execute(
                "INSERT INTO interim_line SELECT ?, feedetl_sn FROM line"
                " WHERE mdtrt_id = ? AND feedetl_sn NOT IN (SELECT * FROM settled_before)",
                (setl_id, stay["mdtrt_id"]),
            )
        self._move_balance(stay["psn_no"], -shares.account_fen)
        return {"setlinfo": _setlinfo(stay["mdtrt_id"], setl_id, at, shares, balance_fen)}

    def _move_balance(self, psn_no: str, fen: int) -> None:
        self.party.truth.execute("UPDATE person SET balance_fen = balance_fen + ? WHERE psn_no = ?", (fen, psn_no))

    def find_settlement(self, given: dict[str, Any]) -> dict[str, Any]:
        """5203: the settlement one 2304 made, or nothing when it made none or it was taken back."""
        told = given.get("data")
        found = self.party.row(
            "SELECT * FROM settlement WHERE mdtrt_id = ? AND msgid = ? AND taken_back_at IS NULL",
            self._stay(told)["mdtrt_id"],
            text_of(told, "omsgid"),
        )
        if found is None:
            return {"setlinfo": None}
        shares = Shares(**{f"{part}_fen": found[f"{part}_fen"] for part in _PARTS})
        return {"setlinfo": _setlinfo(found["mdtrt_id"], found["setl_id"], found["at"], shares, found["balance_fen"])}

    def take_settlement_back(self, given: dict[str, Any], msgid: str) -> dict[str, Any]:
        """2305: a settlement is taken back; twice is as good as once."""
        told = given.get("data")
        stay = self._live_stay(told)
        found = self.party.row(
            "SELECT * FROM settlement WHERE setl_id = ? AND mdtrt_id = ?", text_of(told, "setl_id"), stay["mdtrt_id"]
        )
        if found is None:
            raise Refused(UNKNOWN_SETTLEMENT, "There is no such settlement.")
        if found["taken_back_at"] is None:
            self._take_back(found, stay["psn_no"], msgid)
        return {"setlinfo": {"mdtrt_id": stay["mdtrt_id"], "setl_id": found["setl_id"]}}

    def _take_back(self, settlement: dict[str, Any], psn_no: str, msgid: str) -> None:
        self.party.truth.execute(
            "UPDATE settlement SET taken_back_at = ?, taken_back_by = ? WHERE setl_id = ?",
            (now_text(), msgid, settlement["setl_id"]),
        )
        self._move_balance(psn_no, settlement["account_fen"])

    # ---- reversing and comparing -------------------------------------------------------------------------------------

    def reverse(self, given: dict[str, Any], msgid: str) -> dict[str, Any]:
        """2601: a trade never counts, whether it was done, was not, or is still on its way."""
        told = given.get("data")
        infno, of_msgid = text_of(told, "oinfno"), text_of(told, "omsgid")
        undo = {"2304": self._void, "2305": self._restore, "2401": self._unregister, "2402": self._stay_on}.get(infno)
        if undo is None:
            raise Refused(NOT_REVERSIBLE, "This trade is not reversed by 2601.")
        known = self.party.row("SELECT * FROM message WHERE msgid = ?", of_msgid)
        if known is None:
            self.party.truth.execute(
                "INSERT INTO message VALUES (?, ?, NULL, NULL, ?, ?)", (of_msgid, infno, now_text(), now_text())
            )
        elif known["infno"] != infno:
            raise Refused(REUSED, "This msgid belongs to another trade.")
        elif known["reversed_at"] is None:
            undo(of_msgid, msgid)
            self.party.truth.execute("UPDATE message SET reversed_at = ? WHERE msgid = ?", (now_text(), of_msgid))
        return {}

    def _void(self, of_msgid: str, msgid: str) -> None:
        found = self.party.row(
            "SELECT * FROM settlement JOIN stay USING (mdtrt_id) WHERE settlement.msgid = ?", of_msgid
        )
        assert found is not None
        if found["taken_back_at"] is None:
            self._take_back(found, found["psn_no"], msgid)
        self.party.truth.execute("UPDATE settlement SET void = 1 WHERE setl_id = ?", (found["setl_id"],))

    def _restore(self, of_msgid: str, _msgid: str) -> None:
        found = self.party.row("SELECT * FROM settlement JOIN stay USING (mdtrt_id) WHERE taken_back_by = ?", of_msgid)
        if found is None:
            return
        if self.party.row("SELECT 1 FROM interim_line WHERE setl_id = ?", found["setl_id"]) is not None:
            raise Refused(WRONG_STATE, "An interim settlement that was taken back is made anew.")
        held = self.party.rows("SELECT amount_fen FROM line WHERE mdtrt_id = ?", found["mdtrt_id"])
        changed = sum(line["amount_fen"] for line in held) != found["total_fen"]
        if changed or self._in_force(found["mdtrt_id"]) is not None:
            raise Refused(WRONG_STATE, "The stay went on since.")
        person = self.party.row("SELECT balance_fen FROM person WHERE psn_no = ?", found["psn_no"])
        if person is None or person["balance_fen"] < found["account_fen"]:
            raise Refused(WRONG_STATE, "The account was used since.")
        self.party.truth.execute(
            "UPDATE settlement SET taken_back_at = NULL, taken_back_by = NULL WHERE setl_id = ?", (found["setl_id"],)
        )
        self._move_balance(found["psn_no"], -found["account_fen"])

    def _unregister(self, of_msgid: str, _msgid: str) -> None:
        found = self.party.row("SELECT * FROM stay WHERE msgid = ?", of_msgid)
        assert found is not None
        if found["cancelled_at"] is None:
            self._unsettled_stay(found)
            self._cancel(found["mdtrt_id"])

    def _stay_on(self, of_msgid: str, _msgid: str) -> None:
        self.party.truth.execute("UPDATE stay SET left_at = NULL, left_by = NULL WHERE left_by = ?", (of_msgid,))

    def compare_day(self, given: dict[str, Any]) -> dict[str, Any]:
        """3201: settlements made on a business day less those taken back on it; what 2601 reversed never was."""
        told = given.get("data", {})
        day = _date(text_of(told, "stmt_begndate"))
        if text_of(told, "stmt_enddate") != day.isoformat():
            raise Refused("-1", "One day at a time.")
        count = payer_fen = 0
        for one in self.party.rows("SELECT * FROM settlement WHERE void = 0"):
            for at, sign in ((one["at"], 1), (one["taken_back_at"], -1)):
                if at is not None and self.party.day_of(at) == day:
                    count += sign
                    payer_fen += sign * (one["fund_fen"] + one["account_fen"])
        same = (told.get("fixmedins_setl_cnt"), _fen(told, "payer_sumamt")) == (count, payer_fen)
        return {
            "stmtinfo": {
                "stmt_rslt": 0 if same else 1,
                "fixmedins_setl_cnt": count,
                "payer_sumamt": decimal_text(payer_fen),
            }
        }


_PARTS = ("total", "out_of_scope", "deductible", "fund", "account", "cash")


def _setlinfo(mdtrt_id: str, setl_id: str, at: str, shares: Shares, balance_fen: int) -> dict[str, Any]:
    return {
        "mdtrt_id": mdtrt_id,
        "setl_id": setl_id,
        "setl_time": at,
        "medfee_sumamt": decimal_text(shares.total_fen),
        "inscp_scp_amt": decimal_text(shares.total_fen - shares.out_of_scope_fen),
        "act_pay_dedc": decimal_text(shares.deductible_fen),
        "fund_pay_sumamt": decimal_text(shares.fund_fen),
        "psn_part_amt": decimal_text(shares.account_fen + shares.cash_fen),
        "acct_pay": decimal_text(shares.account_fen),
        "psn_cash_pay": decimal_text(shares.cash_fen),
        "balc": decimal_text(balance_fen),
    }


def _list(given: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = given.get(name)
    if not isinstance(value, list) or not 1 <= len(value) <= LINES_MAX:
        raise Refused("-1", f"{name} has 1 to {LINES_MAX} lines.")
    if len({text_of(one, "mdtrt_id") for one in value}) != 1:
        raise Refused("-1", "One stay at a time.")
    return value


def _fen(told: Any, name: str) -> int:
    value = told.get(name) if isinstance(told, dict) else None
    try:
        return fen_from_decimal_text(str(value))
    except NotAnAmount:
        raise Refused("-1", f"{name} is no amount.") from None


def _word(told: Any, name: str) -> str:
    value = told.get(name, "")
    return value if isinstance(value, str) else ""


def _instant(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused("-1", "This is no time.") from None
    if at.tzinfo is None:
        raise Refused("-1", "This time has no zone.")
    return at.astimezone(UTC).isoformat()


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused("-1", "This is no day.") from None


if __name__ == "__main__":
    Fund(SimulatorSettings()).party.run()
