"""Insight: what is going on in the whole house, seen from the topics. Owns no patient fact; everything here can be thrown away.

Owns: live views (census per ward, journeys in flight) in memory, the index of events by stay, spans of the last two days, lags.
Topics out: none.
Topics in: every event topic. The views are built anew from the beginning of the topics at each start (`streams.py`, Faust).
"""
