"""Admission (入院): who the patients are, and the life of each stay.

Owns: patient identities (names stay here), encounters (住院就诊).
Topics out: admission.patients.v1, admission.encounters.v1.
Topics in: beds.allocations.v1 (BedAssigned, BedWaitlisted, BedHoldExpired, BedRefused, BedOccupied,
    BedTransferred, TransferCancelled), beds.inventory.v1 (BedVacated),
    billing.accounts.v1 (AccountClosed, SettlementReopened, ChargePosted, ChargeReversed), daysurgery.cases.v1 (DaySurgeryConverted).
"""
