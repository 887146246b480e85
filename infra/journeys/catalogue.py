"""What the data files say about bundles: which procedures are day surgery, which payer is meant, which deposit is taken."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from services.daysurgery.domain import read_catalogue
from shared.contracts.envelope import PayerKind

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PROCEDURES_FILE = PROJECT_ROOT / "services" / "daysurgery" / "data" / "procedures.csv"
"""The catalogue of the day-surgery service itself, so that the two never differ (R21)."""
PAYERS_FILE = Path(__file__).parent / "data" / "payers.csv"
DEPOSITS_FILE = Path(__file__).parent / "data" / "deposits.csv"


@dataclass(frozen=True, slots=True)
class Deposit:
    """What is asked for at the beginning of a stay, and how it is paid."""

    amount_fen: int
    method: str


@dataclass(frozen=True, slots=True)
class Rules:
    """How bundles are understood; values, so that a test or another hospital can have its own."""

    day_procedures: frozenset[str]
    payers: Mapping[str, PayerKind]
    deposits: Mapping[PayerKind, Deposit]

    def payer_of(self, name: str) -> PayerKind | None:
        """Return the kind of payer a coverage names, whatever its case and spacing; nothing for an unknown name."""
        return self.payers.get(_plain(name))


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def _payer_kind(text: str) -> PayerKind:
    if text not in get_args(PayerKind):
        raise ValueError(f"There is no payer kind {text}.")
    return cast("PayerKind", text)


def read_rules(
    procedures_file: Path = PROCEDURES_FILE, payers_file: Path = PAYERS_FILE, deposits_file: Path = DEPOSITS_FILE
) -> Rules:
    """Return the rules the data files give.

    Raises:
        ValueError: a file names a payer kind that does not exist, or an amount that is no number.
    """
    catalogue = read_catalogue(procedures_file.read_text("utf-8"))
    return Rules(
        day_procedures=frozenset(code for code in catalogue.procedures if catalogue.admits(code)),
        payers={_plain(row["name"]): _payer_kind(row["payer_kind"]) for row in _rows(payers_file)},
        deposits={
            _payer_kind(row["payer_kind"]): Deposit(int(row["amount_fen"]), row["method"])
            for row in _rows(deposits_file)
            if int(row["amount_fen"]) > 0
        },
    )
