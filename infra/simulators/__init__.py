"""The parties outside the hospital as servers of their own, for tests, demonstrations and trials; never for a real hospital.

    python -m infra.simulators.insurance   the insurance fund (医保), national JSON envelope; shares.py says who pays what
    python -m infra.simulators.channel     the payment channel (WeChat, Alipay), its notices and the family's pay page
    python -m infra.simulators.receipts    the receipt office (财政电子票据)

Each believes what stands in its own SQLite file (its truth), which outlives the process. What it believes and how it is to
misbehave (faults.py) is seen and set under /admin with a token, on the same port; party.py is what all three share.
"""
