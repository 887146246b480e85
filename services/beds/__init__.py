"""The hospital-wide bed pool (全院床位池): one pool, one allocating role, no bed hidden in a ward.

Owns: beds with three axes of state, claims (who has which bed when), requests and their queue, cleaning, decisions that explain themselves.
Topics out: beds.allocations.v1, beds.inventory.v1.
Topics in: admission.encounters.v1 (BedRequested, PatientAdmitted, PreAdmissionCancelled, AdmissionCancelled, DischargeOrdered,
    DischargeOrderUndone, PatientDischarged, DischargeCancelled), daysurgery.cases.v1 (DayBedRequested, DaySurgeryArrived,
    DaySurgeryCancelled, DaySurgeryDischarged, DaySurgeryConverted).

layout.py    the hospital as a file                     rules.py    which beds are closed to whom, and what the others cost (pure)
mirror.py    the pool in memory: board, streams, choice  actions.py  requests and stays
desk.py      what people choose, take and refuse        moves.py    transfer, announced transfer, swap, leave, and each taken back
shares.py    newborns and companions in a bed           announced.py  announced moves that end by themselves
upkeep.py    cleaning, repair, closed wards, quotas     plan.py     who would get which bed when all are looked at together (pure)
leaving.py   expected day and milestones                milestones.py  which steps are late (pure, from a file)
forecast.py  how many will leave, honestly (pure)
planner/     optimisation, also of public instances     links.py    a patient's own place without login
"""
