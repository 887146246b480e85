"""The hospital-wide bed pool (全院床位池): one pool, one allocating role, no bed hidden in a ward.

Owns: beds with three axes of state, claims (who has which bed when), requests and their queue, cleaning.
Topics out: beds.allocations.v1, beds.inventory.v1.
Topics in: admission.encounters.v1 (BedRequested, PatientAdmitted, PreAdmissionCancelled, AdmissionCancelled, PatientDischarged,
    DischargeCancelled), daysurgery.cases.v1 (DayBedRequested, DaySurgeryArrived,
    DaySurgeryCancelled, DaySurgeryDischarged, DaySurgeryConverted).
"""
