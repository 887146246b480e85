"""Delivery: events are never lost and never applied twice.

outbox.py    an event is written in the transaction of its effect
relay.py     one fenced relay per service sends what is unsent, in order, and tells the beacon
consumer.py  one loop for every service: effect + inbox + offset in one transaction
parking.py   events set aside with their reason; later events of the same aggregate wait behind them
broker.py    what a broker must do; kafka.py is the real one, memory.py the same semantics for fast tests
"""
