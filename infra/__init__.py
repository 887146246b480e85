"""Everything around the services: the command line, the embedded stack, outside parties for tests, and deployment.

No hospital rules live here; a service never imports this package.
"""
