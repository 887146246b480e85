"""Contracts (events) and mechanics that at least two services need. No hospital rules, and nothing imported from `services`."""
