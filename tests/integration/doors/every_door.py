"""Every door that changes something, with a body it would take; and what the tests of bad input plant in it."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from shared.access.roles import Role
from tests.integration.doors.conftest import NOW

CANARY = "zhugekongming-7731"
"""Stands in every field of every bad request; the name of an unknown field begins with it, too."""
CANARY_FIELD = "zhugekongming"
PASSWORD = "caocao mengde 1771"
SERVICES = ("admission", "beds", "billing", "daysurgery", "followup", "access")
EVERYBODY = tuple(role for role in Role if role is not Role.IMPORTER)
UNKNOWN = {
    **dict.fromkeys(
        (
            "tok",
            "lying",
            "charge",
            "reversed",
            "deposit",
            "gone",
            "task",
            "wanted",
            "case",
            "user",
            "timed",
            "bill",
            "order",
            "share",
        ),
        "",
    ),
    **dict.fromkeys(("bed", "parked"), "999999999"),
    "ward": "nowhere",
    "milestone": "bill_ready",
}
Json = Any


@dataclass(frozen=True)
class At:
    """One door: where it is, what it takes, and what it says of things it does not know."""

    service: str
    method: str
    path: str
    body: Json = None
    unknown: tuple[int, str] | None = None
    fact: bool = True
    once: bool = True
    """It needs an Idempotency-Key."""
    anybody: bool = False
    """It needs no role; `public` doors need not even a token."""
    public: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} /{self.service}{self.path}"


IDENTIFIER = {"system": CANARY, "value": CANARY}
SLOT = {"starts_at": NOW.isoformat(), "ends_at": (NOW + timedelta(hours=5)).isoformat()}
REASON = {"reason": CANARY}
VERSION = {"If-Match": 'W/"1"'}
NOT_FOUND = (404, "not_found")
PATIENT = {
    "identifier": IDENTIFIER,
    "name": CANARY,
    "sex": "male",
    "birth_date": "1960-05-04",
    "phone": CANARY,
}
STAY = {
    "patient_tok": "{tok}",
    "identifier": IDENTIFIER,
    "urgency": "elective",
    "specialty": CANARY,
    "payer_kind": "self_pay",
    "isolation": "none",
    "level_of_care": "normal",
    "expected_admit_at": NOW.isoformat(),
    "expected_stay_days": 7,
}
BED = {
    "code": CANARY,
    "campus": CANARY,
    "building": CANARY,
    "floor": 1,
    "ward": CANARY,
    "room": CANARY,
    "kind": "day",
    "level": "normal",
    "specialty": CANARY,
    "isolation": False,
}
PRICE = {
    "code": CANARY,
    "name_zh": CANARY,
    "name_en": CANARY,
    "pinyin": "XCG",
    "class": "test",
    "receipt_class": "04",
    "insurance_class": "01",
    "unit": "each",
    "price_fen": 100,
    "valid_from": "2026-01-01",
    "valid_to": "2027-01-01",
    "remark": CANARY,
}
ORDER = {"order_id": CANARY, "item": CANARY, "barcode": CANARY}
CHOICE = {"bed_id": 1, "version": 1, "reason": CANARY}
ASSIGNMENT = {**CHOICE, "travel_minutes": 90}
ANNOUNCED = {**CHOICE, "override": False, "planned_at": NOW.isoformat()}
NO_REQUEST = (409, "no_bed_request")
CASE = {
    "patient_tok": "{tok}",
    "identifier": IDENTIFIER,
    "procedure": "73761001",
    "payer_kind": "self_pay",
}
ACCOUNT = {
    "username": CANARY,
    "display_name": CANARY,
    "password": PASSWORD,
    "roles": ["doctor"],
    "wards": [CANARY],
}
CHANGE = {
    "display_name": CANARY,
    "roles": ["admin"],
    "wards": [CANARY],
    "disabled": False,
}

DOORS = (
    At("admission", "POST", "/patients", PATIENT),
    At("admission", "POST", "/patients/{tok}/reveal", {"purpose": "call"}, NOT_FOUND, fact=False, once=False),
    At("admission", "POST", "/encounters", STAY, NOT_FOUND),
    At("admission", "POST", "/encounters/{wanted}/admission", {"paperwork_pending": False}, NOT_FOUND),
    At("admission", "POST", "/encounters/{lying}/paperwork", {}, NOT_FOUND),
    At("admission", "POST", "/encounters/{wanted}/cancellation", REASON, NOT_FOUND),
    At("admission", "POST", "/encounters/{lying}/admission-cancellation", REASON, NOT_FOUND),
    At("admission", "POST", "/encounters/{lying}/discharge-order", {}, NOT_FOUND),
    At("admission", "POST", "/encounters/{lying}/discharge-order-undo", REASON, NOT_FOUND),
    At("admission", "POST", "/encounters/{lying}/discharge", {"disposition": "1"}, NOT_FOUND),
    At("admission", "POST", "/encounters/{gone}/discharge-cancellation", REASON, NOT_FOUND),
    At("beds", "POST", "/beds", {"beds": [BED]}, fact=False),
    At("beds", "POST", "/beds/{bed}/cleaning-start", {}, NOT_FOUND),
    At("beds", "POST", "/beds/{bed}/cleaning-suspension", REASON, NOT_FOUND, fact=False),
    At("beds", "POST", "/beds/{bed}/cleaning-done", {}, NOT_FOUND),
    At("beds", "POST", "/beds/{bed}/block", {**REASON, "until": NOW.isoformat()}, NOT_FOUND, fact=False),
    At("beds", "POST", "/beds/{bed}/unblock", None, NOT_FOUND, fact=False),
    At("beds", "POST", "/beds/{bed}/retirement", None, NOT_FOUND, fact=False),
    At("beds", "POST", "/beds/{bed}/change", {"version": 1, "room": CANARY}, NOT_FOUND, fact=False),
    At("beds", "POST", "/wards/{ward}/closing", REASON, NOT_FOUND, fact=False),
    At("beds", "POST", "/wards/{ward}/opening", None, NOT_FOUND, fact=False),
    At("beds", "POST", "/wards/{ward}/change", {"specialty": CANARY}, NOT_FOUND, fact=False),
    At("beds", "POST", "/encounters/{lying}/transfer", {**CHOICE, "override": False}, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/leave", {"until": NOW.isoformat()}, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/leave-end", None, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/transfer-cancellation", {**REASON, "lay_in_it": True}, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/announced-transfer", ANNOUNCED, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/announced-transfer-cancellation", REASON, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/announced-transfer-completion", None, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/leave-cancellation", REASON, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/leave-end-cancellation", REASON, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/shares", {"kind": "newborn", "guest_encounter_id": "{wanted}"}, NO_REQUEST, fact=False),
    At("beds", "POST", "/shares/{share}/end", REASON, NOT_FOUND, fact=False),
    At("beds", "POST", "/encounters/{lying}/expected-leaving", {**REASON, "at": NOW.isoformat()}, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/milestones/{milestone}", None, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/milestones/{milestone}/cancellation", REASON, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{lying}/milestones/{milestone}/delay", REASON, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{wanted}/acceptance", None, NO_REQUEST, fact=False),
    At("beds", "POST", "/swaps", {"first_encounter_id": "{lying}", "second_encounter_id": "{wanted}", **REASON}, fact=False),
    At("beds", "POST", "/requests/{wanted}/assignment", ASSIGNMENT, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{wanted}/refusal", {"by": "ward", "keeps_place": True, **REASON}, NO_REQUEST, fact=False),
    At("beds", "POST", "/encounters/{wanted}/queue-link", None, NOT_FOUND, fact=False),
    At("beds", "POST", "/plan/acceptance", {"items": [{"encounter_id": "{wanted}", "bed_id": 1, "version": 1}]}, fact=False),
    At("beds", "POST", "/rules", {"weights": [{"rule": "other_ward", "points": 100}]}, fact=False),
    At("beds", "POST", "/queue-look", {"token": "zhugekongming-7731-zhugekongming"}, fact=False, once=False, public=True),
    At("billing", "POST", "/encounters/{lying}/deposits", {"amount_fen": 100, "method": "cash"}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/blood-waivers", {"amount_fen": 100, "approval_no": CANARY}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/deposits/{deposit}/refund", {}, (404, "no_account")),
    At("billing", "POST", "/encounters/{lying}/deposits/{deposit}/move", {"to_encounter_id": "{wanted}"}, (404, "no_account")),
    At("billing", "POST", "/refund-requests/{charge}/approval", None, (404, "no_such_request"), fact=False),
    At("billing", "POST", "/refund-requests/{charge}/refusal", {"reason": CANARY}, (404, "no_such_request"), fact=False),
    At("billing", "POST", "/encounters/{lying}/charges", {"item": CANARY, "amount_fen": 100}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/charges/{charge}/reversal", REASON, (404, "no_account")),
    At("billing", "POST", "/encounters/{lying}/settlement", {"method": "cash", "charged_fen": 4200}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{gone}/settlement-reopening", REASON, (404, "no_account")),
    At("billing", "POST", "/encounters/{lying}/late-charges",
       {"item": CANARY, "amount_fen": 100, "method": "cash", **REASON}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/bad-debt", {"charged_fen": 4200, **REASON}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/payment-group", {"scheme": "drg", "code": "FM19"}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/encounters/{lying}/coverage", {"psn_no": "zhugekongming7731"}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/encounters/{lying}/bills", {"as_self_pay": True}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/encounters/{lying}/bills/{bill}/confirmation", {"lines_hash": "0" * 32}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/encounters/{lying}/bills/{bill}/cancellation", {}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/encounters/{lying}/bills/{bill}/payments", {"amount_fen": 1, "method": "cash"}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/encounters/{lying}/bills/{bill}/orders", {"amount_fen": 1, "method": "wechat"}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/encounters/{lying}/orders", {"amount_fen": 1, "method": "wechat"}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/encounters/{lying}/orders/{order}/closing", {}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/price-versions", {"prices": [PRICE], "note": CANARY, "check": False}, fact=False),
    At("billing", "POST", "/encounters/{lying}/items", {**ORDER, "quantity": 1, "at": NOW.isoformat()}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/medical-orders", ORDER, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/timed-items", {"item": CANARY, "at": NOW.isoformat()}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/timed-items/{timed}/stop", {"at": NOW.isoformat()}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/timed-items/{timed}/correction",
       {"started_at": NOW.isoformat(), "stopped_at": NOW.isoformat()}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/bed-days", {}, (409, "no_account_yet")),
    At("billing", "POST", "/encounters/{lying}/credit", {"limit_fen": 100, "reason": CANARY}, (409, "no_account_yet"), fact=False),
    At("billing", "POST", "/cash-shifts", {"float_fen": 100}, fact=False),
    At("billing", "POST", "/cash-shifts/current/closing", {"counted_fen": 100}, (404, "no_open_shift"), fact=False),
    At("billing", "POST", "/reconciliation", {"day": "2026-03-01"}, fact=False),
    At("billing", "POST", "/differences/{charge}/owner", {}, (404, "no_such_difference"), fact=False),
    At("billing", "POST", "/differences/{charge}/explanation", {"explanation": "test_transaction"}, (404, "no_such_difference"), fact=False),
    At("daysurgery", "POST", "/cases", CASE, (409, "patient_not_known_yet")),
    At("daysurgery", "POST", "/cases/{case}/booking", SLOT, NOT_FOUND),
    At("daysurgery", "POST", "/cases/{case}/cancellation", {"by": "patient", "reason": CANARY}, NOT_FOUND),
    At("daysurgery", "POST", "/cases/{booked}/arrival", {}, NOT_FOUND),
    At("daysurgery", "POST", "/cases/{booked}/operation-start", {}, NOT_FOUND),
    At("daysurgery", "POST", "/cases/{booked}/operation-end", {}, NOT_FOUND),
    At("daysurgery", "POST", "/cases/{booked}/discharge", {"disposition": "1"}, NOT_FOUND),
    At("daysurgery", "POST", "/cases/{booked}/conversion", {"specialty": CANARY}, NOT_FOUND),
    At("followup", "POST", "/tasks/{task}/completion", {"outcome": "well"}, NOT_FOUND),
    At("access", "POST", "/login", {"username": CANARY, "password": PASSWORD}, fact=False, once=False, public=True),
    At("access", "POST", "/me/password", {"old_password": PASSWORD, "new_password": PASSWORD}, fact=False, once=False, anybody=True),
    At("access", "POST", "/users", ACCOUNT, fact=False),
    At("access", "PATCH", "/users/{user}", CHANGE, (404, "account_unknown"), fact=False, headers=VERSION),
    At("access", "PUT", "/users/{user}/password", {"password": PASSWORD}, (404, "account_unknown"), fact=False, headers=VERSION),
    *(
        At(service, "POST", f"/parked/{{parked}}/{wish}", None, NOT_FOUND, fact=False)
        for service in SERVICES if service != "access" for wish in ("retry", "discard")
    ),
)  # fmt: skip


def doors_of(service: str, **wanted: bool) -> list[At]:
    """Return the doors of a service with these traits."""
    return [at for at in DOORS if at.service == service and all(getattr(at, k) is v for k, v in wanted.items())]


def with_body(service: str) -> list[At]:
    return [at for at in doors_of(service) if at.body is not None]
