"""One example of every event: two imaginary patients, each field as it looks on a real day.

A woman with heart failure lies in ward 4A for six days; a man comes for a colonoscopy. The examples are the golden corpus
every consumer must read for ever (R22), so what is exported once is never changed; a new field gets a value here.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from shared.contracts.envelope import Event

_ROOT = UUID("6f2b7a7e-2c1d-4b52-9e0a-1d5c6f0a9b3e")


def _id(name: str) -> str:
    return str(uuid5(_ROOT, name))


STORY: Mapping[str, Any] = {
    "patient_tok": _id("heart patient"),
    "encounter_id": _id("six days in 4A"),
    "sex": "female",
    "birth_year": 1954,
    "age_years": 71,
    "urgency": "urgent",
    "specialty": "cardiology",
    "payer_kind": "basic_insurance",
    "isolation": "none",
    "level_of_care": "normal",
    "expected_admit_at": "2026-03-02T01:30:00Z",
    "from_at": "2026-03-02T01:30:00Z",
    "expected_stay_days": 6,
    "equipment": ["monitor"],
    "bed_class": "any",
    "partner": "hexi_health_centre",
    "travel_minutes": 90,
    "encounter_class": "inpatient",
    "emergency": False,
    "kind": "inpatient",
    "bed_id": 117,
    "bed_code": "4A-05",
    "ward": "4A",
    "terminal": False,
    "by": "ward",
    "accommodation": "standard",
    "from_bed_id": 117,
    "from_ward": "4A",
    "transferred_at": "2026-03-04T07:30:00Z",
    "announced": False,
    "from_shared": False,
    "shared": False,
    "planned_at": "2026-03-04T07:00:00Z",
    "escalated_at": "2026-03-02T02:00:00Z",
    "guest_encounter_id": _id("born in 4C"),
    "declared_at": "2026-03-03T10:00:00Z",
    "ended_at": "2026-03-05T10:00:00Z",
    "expected_at": "2026-03-08T02:00:00Z",
    "milestone": "medication_ready",
    "reached_at": "2026-03-08T01:50:00Z",
    "released_at": "2026-03-02T06:00:00Z",
    "until": "2026-03-06T09:00:00Z",
    "held_until": "2026-03-02T05:30:00Z",
    "admitted_at": "2026-03-02T02:05:00Z",
    "occupied_at": "2026-03-02T02:05:00Z",
    "completed_at": "2026-03-02T02:40:00Z",
    "ordered_at": "2026-03-08T00:55:00Z",
    "discharged_at": "2026-03-08T03:20:00Z",
    "vacated_at": "2026-03-08T03:20:00Z",
    "started_at": "2026-03-08T03:40:00Z",
    "cleaned_at": "2026-03-08T04:10:00Z",
    "cancelled_at": "2026-03-08T06:00:00Z",
    "disposition": "1",
    "reason": "patient_request",
    "account_id": _id("account"),
    "entry_id": _id("entry"),
    "method": "wechat",
    "amount_fen": 300_000,
    "item": "ecg_12_lead",
    "charged_at": "2026-03-03T08:15:00Z",
    "deposit_entry_id": _id("deposit"),
    "reverses_entry_id": _id("wrong charge"),
    "settlement_id": _id("settlement"),
    "number": 1,
    "charged_fen": 864_250,
    "deposits_fen": 300_000,
    "payer_fen": 0,
    "collected_fen": 564_250,
    "refunded_fen": 0,
    "written_off_fen": 0,
    "owed_fen": 3_120_000,
    "limit_fen": 3_000_000,
    "bill_id": _id("bill"),
    "patient_fen": 264_250,
    "fund_fen": 500_000,
    "account_fen": 100_000,
    "receipt_no": "WS000000000001",
    "red_receipt_no": "WS000000000002",
    "plan_id": _id("plan"),
    "template": "cardiac",
    "task_id": _id("first call"),
    "outcome": "well",
    "tasks": [
        {
            "task_id": _id(f"call {days}"),
            "item": f"t{days}",
            "executor": executor,
            "due_from_at": f"2026-03-{8 + days:02d}T03:20:00Z",
            "due_to_at": f"2026-03-{8 + days + 1:02d}T03:20:00Z",
        }
        for days, executor in ((3, "hospital_nurse"), (7, "hospital_nurse"), (14, "primary_care"))
    ],
}
"""Field name -> its value, wherever the field appears."""

DAY_CASE: Mapping[str, Any] = {
    "case_id": _id("colonoscopy"),
    "encounter_id": _id("a day in DAY"),
    "patient_tok": _id("day patient"),
    "sex": "male",
    "age_years": 52,
    "procedure": "73761001",
    "specialty": "surgery",
    "payer_kind": "self_pay",
    "bed_id": 531,
    "ward": "DAY",
    "starts_at": "2026-03-05T00:00:00Z",
    "ends_at": "2026-03-05T08:00:00Z",
    "arrived_at": "2026-03-05T00:05:00Z",
    "started_at": "2026-03-05T01:10:00Z",
    "finished_at": "2026-03-05T01:45:00Z",
    "discharged_at": "2026-03-05T07:30:00Z",
    "converted_at": "2026-03-05T06:50:00Z",
    "cancelled_by": "patient",
    "reason": "fever",
    "temporary": True,
}
"""The same for the topics of day surgery."""

OF_ONE_EVENT: Mapping[str, Mapping[str, Any]] = {
    "BedWaitlisted": {"reason": "no_room_of_that_sex"},
    "BedRefused": {"reason": "staff_shortage"},
    "BedTransferred": {"bed_id": 131, "bed_code": "4A-19", "reason": "nearer_to_the_nurses"},
    "TransferRequested": {"reason": "breakdown"},
    "TransferAnnounced": {
        "bed_id": 131,
        "bed_code": "4A-19",
        "reason": "nearer_to_the_nurses",
        "held_until": "2026-03-04T11:00:00Z",
    },
    "AnnouncedTransferCancelled": {"bed_id": 131, "reason": "patient_unwell"},
    "TransferCancelled": {"from_bed_id": 131, "reason": "wrong_patient", "cancelled_at": "2026-03-04T08:00:00Z"},
    "ShareDeclared": {"kind": "newborn"},
    "ShareEnded": {"kind": "newborn", "reason": "child_observed"},
    "LeaveCancelled": {"reason": "wrong_patient"},
    "LeaveEndCancelled": {"reason": "wrong_patient"},
    "ExpectedLeavingChanged": {"reason": "recovers_slowly"},
    "MilestoneCancelled": {"reason": "entered_wrongly"},
    "MilestoneDelayed": {"reason": "pharmacy_queue"},
    "CleaningSuspended": {"reason": "emergency_elsewhere"},
    "BedBlocked": {"reason": "repair"},
    "AdmissionCancelled": {"reason": "wrong_patient"},
    "DischargeOrderUndone": {"reason": "fever"},
    "DischargeCancelled": {"reason": "readmitted_same_day"},
    "DepositRefunded": {"amount_fen": 35_750},
    "ChargePosted": {"amount_fen": 4_250},
    "ChargeReversed": {"amount_fen": 4_250},
    "SettlementReopened": {"reason": "late_charge"},
    "BillWithdrawn": {"reason": "payer_declined"},
    "OverpaymentReceived": {"amount_fen": 26_425},
    "SupplementSettled": {
        "number": 2,
        "charged_fen": 4_250,
        "collected_fen": 0,
        "written_off_fen": 4_250,
        "reason": "late_consumable",
    },
    "InterimSettled": {"charged_fen": 812_500, "deposits_fen": 243_750, "payer_fen": 568_750},
    "AccountVoided": {"reason": "wrong_patient"},
    "FollowUpTaskCompleted": {"completed_at": "2026-03-11T06:20:00Z"},
    "FollowUpPlanHeld": {"reason": "readmitted_within_31_days"},
    "FollowUpPlanResumed": {"reason": "left_again"},
    "FollowUpPlanRevoked": {"reason": "death"},
}
"""Where one event tells something else."""


def example_of(event: type[Event]) -> Event:
    """Return the example of an event, validated by its own class.

    Raises:
        KeyError: a field is new and has no value here yet.
    """
    told = {**STORY, **(DAY_CASE if event.topic.owner == "daysurgery" else {}), **OF_ONE_EVENT.get(event.__name__, {})}
    missing = [name for name in event.model_fields if name not in told]
    if missing:
        raise KeyError(f"Give {', '.join(missing)} of {event.__name__} a value in shared/contracts/examples.py.")
    return event.model_validate({name: told[name] for name in event.model_fields})
