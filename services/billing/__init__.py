"""Billing: one account per stay, from the first deposit to the final settlement, on a double-entry ledger exact to the fen.

owns    accounts, charges, deposits, settlements, the ledger (every amount is whole fen, R17), the published prices (R59)
in      admission.encounters.v1 (PatientAdmitted opens, AdmissionCancelled voids; PatientDischarged and DischargeCancelled: who
        left), daysurgery.cases.v1 (DaySurgeryArrived opens, DaySurgeryDischarged: who left; a conversion keeps the account),
        beds.allocations.v1 (BedOccupied, BedTransferred, TransferCancelled: whose ward it is; with LeaveStarted, LeaveEnded,
        LeaveCancelled, LeaveEndCancelled and BedVacated of beds.inventory.v1: where the patient lay, for bed days)
out     billing.accounts.v1, key account_id
laws    domain.py decides, migrations/ enforce again, ledger_violations() checks every account (I4, I5, I9, I10, D3)
"""
