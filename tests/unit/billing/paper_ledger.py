"""The ledger as a clerk would keep it on paper: it follows `domain`'s decisions and adds up its own lines.

The property tests compare it with the law of conservation, and with the database after the same steps.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from services.billing import domain
from services.billing.domain import Account, Deposit, Entry, LedgerAccount, Posting, Reversal, Settlement
from shared.ids import new_id

METHODS = tuple(domain.MONEY_OF)
MONEY = frozenset(domain.MONEY_OF.values())

amounts = st.one_of(st.integers(1, 9), st.integers(1, 2_000_000), st.just(10_000_000_000_000))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("deposit"), amounts, st.sampled_from(METHODS)),
        st.tuples(st.just("charge"), amounts),
        st.tuples(st.just("reverse"), st.integers(0, 30)),
        st.tuples(st.just("refund"), st.integers(0, 30)),
        st.tuples(st.just("refund_part"), st.integers(0, 30), amounts),
        st.tuples(st.just("settle"), st.sampled_from((0, 0, 0, 0, 1, -1)), st.sampled_from(METHODS)),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("void")),
    ),
    min_size=1,
    max_size=25,
)
"""Any sequence of what can happen to an account; numbers point at the n-th charge or deposit ever posted."""


@dataclass
class PaperEntry:
    """A line on paper."""

    id: UUID
    kind: str
    fen: int
    debit: LedgerAccount
    credit: LedgerAccount
    settlement: UUID | None = None
    deposit_id: UUID | None = None
    reverses: UUID | None = None
    reversed: bool = False


@dataclass
class PaperAccount:
    """One account and everything that ever happened on it."""

    id: UUID = field(default_factory=new_id)
    encounter_id: UUID = field(default_factory=new_id)
    patient_tok: UUID = field(default_factory=new_id)
    state: domain.AccountState = "open"
    settlements: int = 0
    entries: list[PaperEntry] = field(default_factory=list)

    def balance(self, of: LedgerAccount) -> int:
        return sum(e.fen for e in self.entries if e.debit is of) - sum(e.fen for e in self.entries if e.credit is of)

    def account(self) -> Account:
        return Account(
            id=self.id,
            encounter_id=self.encounter_id,
            patient_tok=self.patient_tok,
            state=self.state,
            day_case=False,
            settlements=self.settlements,
            receivable_fen=self.balance(LedgerAccount.RECEIVABLE),
            deposits_fen=-self.balance(LedgerAccount.DEPOSITS),
            ward=None,
        )

    def nth(self, kind: str, number: int) -> PaperEntry | None:
        found = [e for e in self.entries if e.kind == kind]
        return found[number % len(found)] if found else None

    def live(self, kind: str) -> list[PaperEntry]:
        return [e for e in self.entries if e.kind == kind and not e.reversed]

    # ---- what can happen -------------------------------------------------------------------------------------------

    def do(self, step: tuple[Any, ...], payer_fen: int = 0) -> Any:
        """Do one step as the domain decides it and return the decision."""
        verb, *rest = step
        if verb == "settle":
            return self._settle(rest[0], rest[1], payer_fen)
        return getattr(self, f"_{verb}")(*rest)

    def _deposit(self, fen: int, method: Any) -> Any:
        decided = domain.deposit(self.account(), new_id(), amount_fen=fen, money=domain.MONEY_OF[method])
        if isinstance(decided, Posting):
            self._write(decided)
        return decided

    def _charge(self, fen: int) -> Any:
        if not domain.takes_charges(self.state):
            return domain.NotOpen(self.state)
        if not domain.fits(self.account().receivable_fen, fen):
            return domain.TooMuch()
        posting = Posting(new_id(), "charge", LedgerAccount.RECEIVABLE, LedgerAccount.REVENUE, fen)
        self._write(posting)
        return posting

    def _reverse(self, number: int) -> Any:
        decided = domain.reverse_charge(self.account(), self._entry(self.nth("charge", number)))
        if isinstance(decided, Reversal):
            self._write_reversal(decided)
        return decided

    def _refund(self, number: int) -> Any:
        decided = domain.refund_deposit(self.account(), self._entry(self.nth("deposit", number)))
        return self._write_refund(decided)

    def _refund_part(self, number: int, fen: int) -> Any:
        decided = domain.refund_deposit(self.account(), self._entry(self.nth("deposit", number)), amount_fen=fen)
        return self._write_refund(decided)

    def _write_refund(self, decided: Any) -> Any:
        if isinstance(decided, Reversal):
            self._write_reversal(decided)
        elif isinstance(decided, Posting):
            self._write(decided)
        return decided

    def left_of(self, deposit: PaperEntry) -> int:
        """Return what of a deposit did not go back yet."""
        parts = [
            e.fen for e in self.entries if e.kind == "part_refunded" and e.deposit_id == deposit.id and not e.reversed
        ]
        return deposit.fen - sum(parts)

    def _settle(self, quote_off_by: int, method: Any, payer_fen: int) -> Any:
        account = self.account()
        decided = domain.settle(
            account,
            [Deposit(e.id, left, e.debit) for e in self.live("deposit") if (left := self.left_of(e))],
            quoted_fen=account.receivable_fen + quote_off_by,
            method=method,
            payer_fen=payer_fen,
        )
        if isinstance(decided, Settlement):
            for posting in decided.postings:
                self._write(posting, decided.id)
            self.settlements, self.state = decided.number, "closed"
        return decided

    def _reopen(self) -> Any:
        in_force = domain.settlement_id_of(self.id, self.settlements)
        children = [e for e in self.entries if e.settlement == in_force]
        decided = domain.reopen(self.account(), [e for c in children if (e := self._entry(c))])
        if isinstance(decided, tuple):
            reversals, gone = decided
            for reversal in reversals:
                self._write_reversal(reversal)
            self.state = "open"
            for posting in gone:
                self._write(posting)
        return decided

    def _void(self) -> Any:
        decided = domain.void(self.account(), [e for c in self.live("charge") if (e := self._entry(c))])
        if isinstance(decided, tuple):
            for reversal in decided:
                self._write_reversal(reversal)
            self.state = "voided"
        return decided

    def _entry(self, paper: PaperEntry | None) -> Entry | None:
        if paper is None:
            return None
        money = paper.debit if paper.kind == "deposit" else paper.credit
        part_refunded_fen = paper.fen - self.left_of(paper)
        return Entry(paper.id, paper.kind, paper.fen, paper.reversed, money, part_refunded_fen, paper.deposit_id)  # type: ignore[arg-type]

    def _write(self, posting: Posting, settlement: UUID | None = None) -> None:
        self.entries.append(
            PaperEntry(
                posting.entry_id,
                posting.kind,
                posting.fen,
                posting.debit,
                posting.credit,
                settlement,
                posting.deposit_id,
            )
        )

    def _write_reversal(self, reversal: Reversal) -> None:
        original = next(e for e in self.entries if e.id == reversal.original.id)
        assert not original.reversed
        original.reversed = True
        self.entries.append(
            PaperEntry(
                reversal.entry_id, "reversal", original.fen, original.credit, original.debit, reverses=original.id
            )
        )

    # ---- the law ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check conservation (I4, invariant 3), floors, once-only reversal and what each state promises."""
        live = [e for e in self.entries if not e.reversed and e.kind != "reversal"]
        total = Counter[str]()
        for entry in live:
            total[entry.kind] += entry.fen
        owed, held = self.balance(LedgerAccount.RECEIVABLE), -self.balance(LedgerAccount.DEPOSITS)
        came = total["deposit"] + total["collected"] + total["payer_share"]
        assert came == total["charge"] + total["rest_refunded"] + total["part_refunded"] + held - owed, (
            "deposits + payments + payer"
        )
        assert sum(self.balance(each) for each in LedgerAccount) == 0
        money = sum(self.balance(each) for each in MONEY)
        assert money == total["deposit"] + total["collected"] - total["rest_refunded"] - total["part_refunded"]
        assert owed >= 0
        assert held >= 0
        assert len({e.id for e in self.entries}) == len(self.entries)
        reversed_ids = [e.reverses for e in self.entries if e.reverses]
        assert len(set(reversed_ids)) == len(reversed_ids), "nothing is reversed twice"
        for deposit in self.live("deposit"):
            used = sum(e.fen for e in live if e.deposit_id == deposit.id)
            parts = deposit.fen - self.left_of(deposit)
            assert used in (parts, deposit.fen), "what is left of a deposit is used up whole or not at all"
        if self.state == "open":
            assert owed == total["charge"]
            assert held == total["deposit"] - total["part_refunded"]
        if self.state == "closed":
            assert (owed, held) == (0, 0)
        if self.state == "voided":
            assert owed == 0
