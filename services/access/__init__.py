"""Staff accounts, login, tokens and duty rosters. Knows staff, never patients.

Owns: accounts, sessions, the signing keys (in a file, never in the database) and this service's audit trail.
Topics in: none. Topics out: none; who may do what travels inside the token.
Read `domain.py` first, then `actions.py`; what each role may do is in `shared/access/policy.py`.
"""
