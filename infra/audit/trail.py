"""The audit trail: sealed, unbroken, and with a row for every command that was answered (I20, S3)."""

from infra.audit.check import Check, Look, Seen, schema
from shared.access import seal

READ_BY_POST = frozenset({"POST /patients/{patient_tok}/reveal"})
"""Reads that are posts, because their answer must not be kept for a key."""
SEAL_SECONDS_MAX = 60

_UNSEALED = """
SELECT format('{s}: audit row %s is a minute old and not sealed', id) FROM {s}.audit
WHERE tx::text::bigint >= coalesce((SELECT max(to_tx::text::bigint) FROM {s}.audit_seal), 0)
  AND at < clock_timestamp() - $1 * interval '1 second'
ORDER BY id
"""
# The transaction number of a row is the low half of the number its audit row notes.
_UNAUDITED = """
SELECT format('{s}: %s was answered at %s and nobody wrote that down', i.route, i.created_at)
FROM {s}.idem i
WHERE NOT EXISTS (
    SELECT FROM {s}.audit a WHERE a.tx::text::bigint & 4294967295 = i.xmin::text::bigint AND a.actor = i.actor
    AND split_part(a.action, ' ', 1) = split_part(i.route, ' ', 1))
"""
_UNANSWERED = """
SELECT format('{s}: audit row %s says %s was done, no answer is kept', a.id, a.action)
FROM {s}.audit a
WHERE a.outcome = 'ok' AND split_part(a.action, ' ', 1) IN ('POST', 'PUT', 'PATCH', 'DELETE') AND NOT a.action = ANY($1)
  AND NOT EXISTS (SELECT FROM {s}.idem i WHERE i.xmin::text::bigint = a.tx::text::bigint & 4294967295 AND i.actor = a.actor)
"""
_SEALED = "SELECT coalesce(sum(rows), 0)::bigint FROM {s}.audit_seal"
_COMMANDS = """
SELECT (SELECT count(*) FROM {s}.idem)
     + (SELECT count(*) FROM {s}.audit WHERE split_part(action, ' ', 1) IN ('POST', 'PUT', 'PATCH', 'DELETE'))
"""


async def seals_verify(at: Look) -> Seen:
    """I20: no sealed row was changed, removed or inserted, and nothing waits long for its seal."""
    examined = 0
    wrong: list[str] = []
    for service in sorted(at.services):
        at.progress(f"verifying the seals of {service}", 0, 0)
        examined += await at.count(_SEALED.format(s=schema(service)))
        async with at.in_schema(service):
            wrong += [f"{service}: {found.sentence}" for found in await seal.verify(at.conn)]
        wrong += await at.texts(_UNSEALED.format(s=schema(service)), SEAL_SECONDS_MAX)
    return Seen(examined, wrong)


async def every_command_is_in_the_trail(at: Look) -> Seen:
    """I20: each kept answer has its audit row of the same commit, and each audited command its answer."""
    examined = 0
    wrong: list[str] = []
    for service in sorted(at.services):
        examined += await at.count(_COMMANDS.format(s=schema(service)))
        wrong += await at.texts(_UNAUDITED.format(s=schema(service)))
        wrong += await at.texts(_UNANSWERED.format(s=schema(service)), sorted(READ_BY_POST))
    return Seen(examined, wrong)


CHECKS = (
    Check("I20-seals", "the seals of every audit trail verify", seals_verify, settles=True),
    Check("I20-commands", "every command is in the audit trail, and nothing else", every_command_is_in_the_trail),
)
