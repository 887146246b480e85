"""Follow-up (随访): an archive per patient, a plan with all its tasks for each discharge, and nobody forgotten.

Owns: follow-up archives, plans, tasks, the templates (data/templates.csv, data/template_rules.csv).
Topics out: followup.plans.v1.
Topics in: admission.encounters.v1 (PatientAdmitted, AdmissionCancelled, PatientDischarged, DischargeCancelled),
    daysurgery.cases.v1 (DaySurgeryArrived, DaySurgeryDischarged).
"""
