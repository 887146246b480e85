"""The planner of the bed pool: which bed for whom when many wait at once. Values in, a plan out; no database, no topics.

pas.py       the public Patient Admission Scheduling format: reader with places of errors, rules and weights, plans and their cost
bounds.py    what no plan can be cheaper than: Lagrange multipliers on bed-nights, made exact by a linear programme
search.py    simulated annealing over exchanges of stays between beds; every plan on its way is complete
race.py      two searches and one bound side by side until the time limit; the best plan is at hand at any moment
contestant.py  one of those processes
batch.py     the pool's own queue: requests x free beds, one sex to a room, prices of waiting
freelist.py  the free beds in memory, for one decision within microseconds
compiled.py  how a function becomes machine code
"""
