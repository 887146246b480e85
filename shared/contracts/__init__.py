"""Every event of the hospital, once.

    admission   admission.patients.v1, admission.encounters.v1
    beds        beds.allocations.v1, beds.inventory.v1
    billing     billing.accounts.v1
    daysurgery  daysurgery.cases.v1
    followup    followup.plans.v1

One class per event, past tense, ids not objects, quantities with their unit last. Changes are additive only (R22);
`schemas/` holds the exported JSON Schema and one example of each version. No messaging, driver or web framework here.
"""
