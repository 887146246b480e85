"""What the billing documents show. Values only: a document that does not add up, to the fen, refuses to exist (R17, R50).

    ItemisedList     费用清单          every charge line of a stay or of one day (R58)
    SettlementList   住院费用结算单    who paid what of one settlement
    ReceiptView      电子票据          an electronic receipt as a person reads it; the receipt itself is the issuer's
    DepositSlip      预交金收据        one deposit
    DischargePack    出院资料包        all of a settled stay, which must tell one story

Names come masked from outside (S6); of the admission number only the end is shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from services.billing.domain import DepositMethod
from services.billing.ports import Receipt, Split

ItemClass = Literal[
    "bed",
    "consultation",
    "examination",
    "laboratory",
    "treatment",
    "operation",
    "nursing",
    "consumables",
    "western_medicine",
    "herbal_medicine",
    "patent_medicine",
    "general_consultation",
    "registration",
    "other",
]
"""The classes of charges on the national inpatient receipt (收费项目类别), in its order."""

ITEM_CLASSES: tuple[ItemClass, ...] = get_args(ItemClass)

URL_LENGTH_MAX = 1000
"""What a QR code on paper still shows in squares a phone can read."""


def _check_aware(*instants: datetime | None) -> None:
    if any(instant is not None and instant.tzinfo is None for instant in instants):
        raise ValueError("A printed time has a time zone (R60).")


class DoesNotAddUp(ArithmeticError):
    """The amounts of this document contradict each other; it must not be printed."""


@dataclass(frozen=True, slots=True)
class Letterhead:
    """Whose document it is, and the zone its days and times are told in."""

    hospital_zh: str
    hospital_en: str
    zone: str


@dataclass(frozen=True, slots=True)
class Stay:
    """Whose stay it is, as much as paper may show."""

    name_masked: str
    admission_no_last4: str
    ward: str
    bed: str
    admitted_at: datetime
    discharged_at: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse more of the admission number than its end (S6)."""
        _check_aware(self.admitted_at, self.discharged_at)
        if len(self.admission_no_last4) > 4:
            raise ValueError("Only the last four characters of an admission number are printed.")


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One charge; a reversed one is followed by its opposite, with a negative quantity (R51)."""

    item_code: str
    name_zh: str
    name_en: str
    item_class: ItemClass
    quantity: Decimal
    unit: str
    unit_price_fen: int
    amount_fen: int
    at: datetime

    def __post_init__(self) -> None:
        """Refuse an amount that is not quantity x price, rounded to a whole fen."""
        _check_aware(self.at)
        if not self.quantity.is_finite() or self.unit_price_fen < 0:
            raise DoesNotAddUp("A line has a finite quantity and a price that is not negative.")
        if abs(self.quantity * self.unit_price_fen - self.amount_fen) >= 1:
            raise DoesNotAddUp("The amount of a line is its quantity times its price.")


@dataclass(frozen=True, slots=True)
class ClassSum:
    """What a class of charges comes to."""

    item_class: ItemClass
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Deposit:
    """Prepaid money as its slip says it."""

    slip_no: str
    method: DepositMethod
    amount_fen: int
    at: datetime

    def __post_init__(self) -> None:
        """Refuse a deposit of nothing."""
        _check_aware(self.at)
        if self.amount_fen <= 0:
            raise DoesNotAddUp("A deposit is more than nothing.")


@dataclass(frozen=True, slots=True)
class MethodSum:
    """Money that was collected or given back, and on which way."""

    method: DepositMethod
    amount_fen: int

    def __post_init__(self) -> None:
        """Refuse a payment of nothing."""
        if self.amount_fen <= 0:
            raise DoesNotAddUp("A payment is more than nothing.")


def class_sums(lines: Iterable[ChargeLine]) -> tuple[ClassSum, ...]:
    """Return the sum of each class that has lines, in the national order; together they are the sum of the lines."""
    sums: dict[ItemClass, int] = {}
    for line in lines:
        sums[line.item_class] = sums.get(line.item_class, 0) + line.amount_fen
    return tuple(ClassSum(item_class, sums[item_class]) for item_class in ITEM_CLASSES if item_class in sums)


def total_fen(sums: Iterable[ChargeLine | ClassSum | Deposit | MethodSum]) -> int:
    """Return what the amounts come to."""
    return sum(one.amount_fen for one in sums)


def _check_class_sums(sums: Sequence[ClassSum], charged_fen: int) -> None:
    if total_fen(sums) != charged_fen:
        raise DoesNotAddUp("The classes do not come to the total.")
    if len({one.item_class for one in sums}) != len(sums):
        raise DoesNotAddUp("A class is summed once.")


# ---- documents -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ItemisedList:
    """Every charge line of a stay, or of one day of it (一日清单, R58)."""

    letterhead: Letterhead
    stay: Stay
    first_on: date
    last_on: date
    lines: tuple[ChargeLine, ...]
    charged_fen: int
    printed_at: datetime

    def __post_init__(self) -> None:
        """Refuse lines that are not the total (V14), or of another day than the list is about."""
        _check_aware(self.printed_at)
        if total_fen(self.lines) != self.charged_fen:
            raise DoesNotAddUp("The lines do not come to the total.")
        if self.first_on > self.last_on:
            raise ValueError("A list begins before it ends.")
        zone = ZoneInfo(self.letterhead.zone)
        if not all(self.first_on <= line.at.astimezone(zone).date() <= self.last_on for line in self.lines):
            raise DoesNotAddUp("A line is of a day outside the list.")


@dataclass(frozen=True, slots=True)
class SettlementList:
    """One settlement: what was charged, and where each fen of it came from."""

    letterhead: Letterhead
    stay: Stay
    number: int
    settled_at: datetime
    class_sums: tuple[ClassSum, ...]
    split: Split
    deposits: tuple[Deposit, ...]
    collected: tuple[MethodSum, ...]
    refunded: tuple[MethodSum, ...]
    printed_at: datetime
    interim: bool = False
    """Of a stay that goes on (中途结算)."""
    payment_group: str | None = None
    """The DRG or DIP group, such as `DRG FM19` (R61)."""

    def __post_init__(self) -> None:
        """Refuse to exist unless charges + refunds = deposits + payer + collected (A3), each deposit's way back being its own."""
        _check_aware(self.settled_at, self.printed_at)
        _check_class_sums(self.class_sums, self.split.charged_fen)
        came = total_fen(self.deposits) + self.split.payer_fen + total_fen(self.collected)
        if came != self.split.charged_fen + total_fen(self.refunded) or (self.collected and self.refunded):
            raise DoesNotAddUp("This settlement does not conserve money.")
        for method in {one.method for one in self.refunded}:
            if _of(method, self.refunded) > _of(method, self.deposits):
                raise DoesNotAddUp("No more goes back on a way than came in on it.")


def _of(method: DepositMethod, sums: Iterable[Deposit | MethodSum]) -> int:
    return total_fen(one for one in sums if one.method == method)


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """An electronic receipt (or the red one that voids it) for reading; what counts is behind its QR code."""

    letterhead: Letterhead
    stay: Stay
    receipt: Receipt
    voids: str | None
    issued_at: datetime
    class_sums: tuple[ClassSum, ...]
    split: Split
    printed_at: datetime

    def __post_init__(self) -> None:
        """Refuse classes that are not the total, and a red receipt (冲红) that voids none."""
        _check_aware(self.issued_at, self.printed_at)
        _check_class_sums(self.class_sums, self.split.charged_fen)
        if self.receipt.red != (self.voids is not None):
            raise ValueError("A red receipt names the one it voids, and only a red one does.")
        if not 0 < len(self.receipt.url) <= URL_LENGTH_MAX:
            raise ValueError("The address of a receipt fits into a QR code.")


@dataclass(frozen=True, slots=True)
class DepositSlip:
    """The slip for one deposit, and what is held for the stay with it."""

    letterhead: Letterhead
    stay: Stay
    deposit: Deposit
    held_fen: int
    printed_at: datetime

    def __post_init__(self) -> None:
        """Refuse to hold less than was just paid in."""
        _check_aware(self.printed_at)
        if self.held_fen < self.deposit.amount_fen:
            raise DoesNotAddUp("What is held includes this deposit.")


@dataclass(frozen=True, slots=True)
class DischargePack:
    """What a family takes home: settlement, itemised list and, once it is issued, the receipt."""

    settlement: SettlementList
    items: ItemisedList
    receipt: ReceiptView | None

    def __post_init__(self) -> None:
        """Refuse parts that are about two stays, or that differ in a class or a payer's part."""
        parts: list[ItemisedList | ReceiptView] = [self.items, *([self.receipt] if self.receipt else [])]
        if any((part.letterhead, part.stay) != (self.settlement.letterhead, self.settlement.stay) for part in parts):
            raise ValueError("All parts of a pack are about one stay.")
        if set(class_sums(self.items.lines)) != set(self.settlement.class_sums):
            raise DoesNotAddUp("The itemised list is not what was settled.")
        if self.receipt is None:
            return
        if self.receipt.receipt.red:
            raise ValueError("A voided receipt is not taken home.")
        if (
            set(self.receipt.class_sums) != set(self.settlement.class_sums)
            or self.receipt.split != self.settlement.split
        ):
            raise DoesNotAddUp("The receipt is not what was settled.")


Document = ItemisedList | SettlementList | ReceiptView | DepositSlip | DischargePack
