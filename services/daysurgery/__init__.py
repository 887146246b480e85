"""Day surgery (日间手术): one case from referral to going home, or to becoming an inpatient stay.

Owns: day-surgery cases, the procedure catalogue (data/procedures.csv), sex and birth year of patients by token.
Topics out: daysurgery.cases.v1.
Topics in: admission.patients.v1 (PatientRegistered), beds.allocations.v1 (BedAssigned, BedWaitlisted, BedHoldExpired, BedOccupied).
"""
