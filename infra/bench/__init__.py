"""Measurements: ours and the bare limit alternating in one run, on scratch servers of their own, never on live data."""
