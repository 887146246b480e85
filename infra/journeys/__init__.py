"""A patient's way through the hospital, played through the public APIs.

From the files to the end, in the order they are used:

model       what a journey is: who, when, how, which charges
catalogue   what the data files say: day procedures, payers, deposits
fhir        FHIR R4 bundles read as journeys; no network, no database
client      a small HTTP client that repeats what is safe to repeat, with the same key
player      one journey step by step; many side by side, each patient's in time order
quiet       waits until every event is sent and applied
"""
