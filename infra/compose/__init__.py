"""The stack in containers (docker-compose.yml): its image, its secrets and the jobs that prepare it. Started here, proven later.

Dockerfile        one image for all services and both jobs
requirements.py   the locked packages without those only the embedded stack needs
secrets.py        makes one environment file per container, with random passwords
prepare.py        the two jobs: `migrate` (roles, schemas, migrations) and `topics`
"""
