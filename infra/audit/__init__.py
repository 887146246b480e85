"""The audit: every invariant of the hospital, recomputed from tables, topics and logs, independent of what enforces it.

    check.py      what a check is, one look at the hospital (one snapshot), what it saw
    scene.py      what is looked at: a database, a broker, log files, the doors
    run.py        looks, looks again at what may still be on its way, and says what is wrong

    beds.py       claims, requests and the three axes of each bed (I1, I2, V2, V5)
    journeys.py   a stay as admission, beds, day surgery and billing each know it (I3, I17, D7, D10)
    money.py      the ledger and its events (I4-I7, I9, I10, R52)
    outside.py    the ledger beside what fund, channel and receipt office say (I8)
    followup.py   discharges and the contacts they owe (I16)
    delivery.py   outboxes, inboxes, offsets, causes (I11-I15, I18, I23)
    topics.py     every record on the broker beside the outboxes (I13-I15)
    trail.py      the audit trail and its seals (I20)
    privacy.py    no name, phone or identifier outside its table (I21); needles.py finds them in any text
    logs.py       error lines (I24)
    views.py      what insight shows beside what the owners know

It reads only: a role without write rights, in transactions that are read only. What is not here, because what it would look at
does not exist yet: rebuilds (I19); and answers by role (I22), which tests ask for.
"""
