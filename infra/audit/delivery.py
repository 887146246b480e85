"""Delivery: nothing announced is lost, nothing is applied that nobody announced, everything has a cause (I11-I15, I18, I23)."""

from collections.abc import Iterable, Iterator

import asyncpg

from infra.audit.check import Check, Look, Seen, schema, types_of
from infra.audit.subscriptions import topics_read_by
from shared.contracts.registry import EVENT_TOPICS
from shared.messaging.broker import TopicPartition

ALONE = {
    "beds": ("BedAdded", "BedAssigned", "BedWaitlisted", "BedHoldExpired"),
    "billing": ("ChargePosted", "ChargeReversed"),
    "followup": ("FollowUpTaskMissed",),
}
"""What a service announces without anybody's command or event: first furnishing and timers."""

EFFECTS = (
    ("access", "user_id", "account", "user_id"),
    ("admission", "patient_tok", "patient", "patient_tok"),
    ("admission", "encounter_id", "encounter", "encounter_id"),
    ("beds", "bed_id", "bed", "bed_id"),
    ("billing", "account_id", "account", "id"),
    ("billing", "entry_id", "entry", "id"),
    ("billing", "settlement_id", "settlement", "id"),
    ("billing", "bill_id", "bill", "id"),
    ("billing", "payment_id", "payment", "id"),
    ("daysurgery", "case_id", "day_case", "case_id"),
    ("followup", "task_id", "task", "task_id"),
)
"""Ids in answers to commands: service, field of the answer, table, column. What was answered must be there."""

_VERSIONS = """
SELECT format('{s}: the versions of %s are not 1 to n in the order they were written', aggregate_id)
FROM (SELECT aggregate_id, version, row_number() OVER (PARTITION BY aggregate_id ORDER BY id) AS place FROM {s}.outbox) o
WHERE version <> place GROUP BY aggregate_id
"""
_AGGREGATES = "SELECT count(DISTINCT aggregate_id) FROM {s}.outbox"


async def versions_without_holes(at: Look) -> Seen:
    """I14: versions of each aggregate are 1 to n, in the order of the outbox."""
    return Seen(await _counted(at, _AGGREGATES), await _found(at, _VERSIONS))


async def _counted(at: Look, query: str, services: Iterable[str] | None = None) -> int:
    return sum([await at.count(query.format(s=schema(s))) for s in (at.announcing if services is None else services)])


async def _found(at: Look, query: str, services: Iterable[str] | None = None) -> list[str]:
    wrong: list[str] = []
    for service in at.announcing if services is None else services:
        wrong += await at.texts(query.format(s=schema(service)))
    return wrong


_HEADS = """
SELECT format('{sub} has read %s up to version %s, {owner} announced %s', coalesce(o.id, i.aggregate_id),
              coalesce(i.version, 0), coalesce(o.version, 0))
FROM (SELECT aggregate_id AS id, max(version) AS version FROM {owner}.outbox WHERE type = ANY($2) GROUP BY aggregate_id) o
FULL JOIN (SELECT aggregate_id, version FROM {sub}.inbox WHERE topic = $1) i ON i.aggregate_id = o.id
WHERE i.version IS DISTINCT FROM o.version
"""
_ANNOUNCED = "SELECT count(DISTINCT aggregate_id) FROM {owner}.outbox WHERE type = ANY($1)"


def _streams(at: Look) -> Iterator[tuple[str, str, str]]:
    """Give each subscriber, its topic and the topic's owner, as far as their tables are there."""
    for subscriber, topics in topics_read_by().items():
        for topic in topics:
            owner = EVENT_TOPICS[topic].owner
            if subscriber in at.services and owner in at.services:
                yield subscriber, topic, owner


async def every_event_is_in_every_inbox(at: Look) -> Seen:
    """I13: each subscriber is at the last version of every aggregate its topics announced, and of no other."""
    examined = 0
    wrong: list[str] = []
    for subscriber, topic, owner in _streams(at):
        names = {"sub": schema(subscriber), "owner": schema(owner)}
        examined += await at.count(_ANNOUNCED.format(**names), types_of(topic))
        wrong += await at.texts(_HEADS.format(**names), topic, types_of(topic))
    return Seen(examined, wrong)


_CONSUMED = """
SELECT topic, part, next_offset, events, version_sum, digest, stream_epoch, halted_reason FROM {s}.consumed
WHERE topic = ANY($1)
"""
_RELAYED = "SELECT topic, part, events, version_sum, digest FROM {s}.relay_sent"


async def _consumed(at: Look, subscriber: str) -> dict[TopicPartition, asyncpg.Record]:
    topics = [topic for name, topic, _ in _streams(at) if name == subscriber]
    rows = await at.rows(_CONSUMED.format(s=schema(subscriber)), topics)
    return {TopicPartition(row["topic"], row["part"]): row for row in rows}


async def every_partition_is_read_to_its_end(at: Look) -> Seen:
    """I15: no stored offset lies behind what the broker held before the look, none beyond what it holds now."""
    if at.scene.topics is None:
        return Seen(0, reason="There is no broker to ask for its offsets.")
    now = await at.scene.topics.extents()
    examined = 0
    wrong: list[str] = []
    for subscriber in dict.fromkeys(name for name, _, _ in _streams(at)):
        stored = await _consumed(at, subscriber)
        for topic in topics_read_by()[subscriber]:
            for part in range(EVENT_TOPICS[topic].partitions):
                place = TopicPartition(topic, part)
                row = stored.get(place)
                examined += 1
                if row is None:
                    wrong.append(f"{subscriber} never read {topic}/{part}")
                elif row["halted_reason"] is not None:
                    wrong.append(f"{subscriber} stopped at {topic}/{part}")
                elif place not in now:
                    wrong.append(f"{topic}/{part} does not exist on the broker")
                elif row["next_offset"] > now[place].end:
                    wrong.append(f"{subscriber} stored an offset beyond the end of {topic}/{part}")
                elif row["next_offset"] < at.extents[place].end:
                    wrong.append(f"{subscriber} reads on at {row['next_offset']} of {topic}/{part}, which goes further")
    return Seen(examined, wrong)


async def consumers_counted_what_relays_sent(at: Look) -> Seen:
    """I15: count, version sum and digest of each partition are the same at the relay and at every consumer.

    A partition that began anew after the broker lost it (stream_epoch) is left to the versions (I13, I14).
    """
    sent: dict[TopicPartition, tuple[int, int, int]] = {}
    for owner in at.announcing:
        for row in await at.rows(_RELAYED.format(s=schema(owner))):
            sent[TopicPartition(row["topic"], row["part"])] = _sums(row)
    examined = anew = 0
    wrong: list[str] = []
    for subscriber in dict.fromkeys(name for name, _, _ in _streams(at)):
        for place, row in (await _consumed(at, subscriber)).items():
            if row["stream_epoch"]:
                anew += 1
                continue
            examined += 1
            said, counted = sent.get(place, (0, 0, 0)), _sums(row)
            if counted != said:
                detail = f"counted {counted[0]} events in {place.topic}/{place.partition}, {said[0]} were sent"
                wrong.append(f"{subscriber} {detail}" + (" (others)" if counted[0] == said[0] else ""))
    return Seen(examined, wrong, f"{anew} partitions began anew and are judged by versions alone." if anew else "")


def _sums(row: asyncpg.Record) -> tuple[int, int, int]:
    return int(row["events"]), int(row["version_sum"]), int(row["digest"])


_SENT_BY_TOPIC = """
SELECT (SELECT count(*) FROM {s}.outbox WHERE type = ANY($1)) - count(u.id) AS events,
       (SELECT coalesce(sum(version), 0) FROM {s}.outbox WHERE type = ANY($1)) - coalesce(sum(o.version), 0) AS version_sum
FROM {s}.outbox_unsent u JOIN {s}.outbox o USING (id) WHERE o.type = ANY($1) AND NOT u.resend
"""
_RELAYED_BY_TOPIC = """
SELECT coalesce(sum(events), 0) AS events, coalesce(sum(version_sum), 0) AS version_sum FROM {s}.relay_sent WHERE topic = $1
"""


async def relays_counted_what_outboxes_hold(at: Look) -> Seen:
    """I15: what a relay says it sent is what its outbox holds and is not waiting in it, topic by topic."""
    examined = 0
    wrong: list[str] = []
    for name, topic in EVENT_TOPICS.items():
        if topic.owner not in at.services:
            continue
        owner = schema(topic.owner)
        (kept,) = await at.rows(_SENT_BY_TOPIC.format(s=owner), types_of(name))
        (said,) = await at.rows(_RELAYED_BY_TOPIC.format(s=owner), name)
        examined += int(kept["events"])
        if tuple(kept) != tuple(said):
            wrong.append(f"{name}: the relay counted {said['events']} sent events, the outbox holds {kept['events']}")
    return Seen(examined, wrong)


_EVENT = """
SELECT '{s}' AS service, event_id, type, causation_id, actor, xmin::text::bigint AS tx FROM {s}.outbox
"""
# The transaction number of a row is the low half of the number its audit row notes.
_CAUSES = """
WITH event AS ({events}), written AS ({audits})
SELECT CASE
           WHEN e.causation_id IS NOT NULL AND c.event_id IS NULL
           THEN format('%s %s was caused by an event that does not exist', e.service, e.event_id)
           WHEN e.causation_id = e.event_id THEN format('%s %s says it caused itself', e.service, e.event_id)
           WHEN e.actor IS NOT NULL THEN format('%s %s was commanded and no audit row says so', e.service, e.event_id)
           ELSE format('%s %s has no cause', e.service, e.event_id) END
FROM event e LEFT JOIN event c ON c.event_id = e.causation_id
WHERE (e.causation_id IS NOT NULL AND (c.event_id IS NULL OR c.event_id = e.event_id))
   OR (e.causation_id IS NULL AND e.actor IS NOT NULL
       AND NOT EXISTS (SELECT FROM written w WHERE w.service = e.service AND w.tx = e.tx AND w.actor = e.actor))
   OR (e.causation_id IS NULL AND e.actor IS NULL AND NOT split_part(e.type, '.', 3) = ANY($1))
"""
_WRITTEN = "SELECT '{s}' AS service, actor, tx::text::bigint & 4294967295 AS tx FROM {s}.audit"
_EVENTS_HELD = "SELECT count(*) FROM {s}.outbox"


async def every_event_has_a_cause(at: Look) -> Seen:
    """I12: each event was caused by an event that exists, by a command the audit trail knows, or by a timer."""
    if not at.announcing:
        return Seen(0)
    query = _CAUSES.format(
        events=" UNION ALL ".join(_EVENT.format(s=schema(s)) for s in at.announcing),
        audits=" UNION ALL ".join(_WRITTEN.format(s=schema(s)) for s in at.announcing),
    )
    alone = [name for service in at.announcing for name in ALONE.get(service, ())]
    return Seen(await _counted(at, _EVENTS_HELD), await at.texts(query, alone))


_ANSWERS = """
SELECT count(nullif(split_part(response, E'\\n', 2), '')::jsonb ->> $1) FROM {s}.idem WHERE status < 300
"""
_WITHOUT_EFFECT = """
SELECT format('{s} answered with {table} %s, which is not there', id)
FROM (SELECT nullif(split_part(response, E'\\n', 2), '')::jsonb ->> $1 AS id FROM {s}.idem WHERE status < 300) a
WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM {s}.{table} t WHERE t.{column}::text = a.id)
"""


async def every_answered_command_has_its_effect(at: Look) -> Seen:
    """I11: what a command was answered with is in the tables; an acknowledged command is never lost."""
    examined = 0
    wrong: list[str] = []
    for service, field, table, column in EFFECTS:
        if service in at.services:
            names = {"s": schema(service), "table": table, "column": column}
            examined += await at.count(_ANSWERS.format(**names), field)
            wrong += await at.texts(_WITHOUT_EFFECT.format(**names), field)
    return Seen(examined, wrong)


_PARKED = """
SELECT format('{s} set aside %s/%s at %s: %s', topic, part, kafka_offset, reason) FROM {s}.parked WHERE status = 'parked'
"""
_FLAGS = """
SELECT format('{s}: the inbox of %s says %s, %s of its events are set aside', coalesce(i.aggregate_id, p.aggregate_id),
              CASE WHEN i.parked THEN 'frozen' WHEN i.parked IS NULL THEN 'unknown' ELSE 'flowing' END, coalesce(p.events, 0))
FROM {s}.inbox i
FULL JOIN (SELECT topic, aggregate_id, count(*) AS events FROM {s}.parked WHERE status = 'parked' AND event_id IS NOT NULL
           GROUP BY topic, aggregate_id) p USING (topic, aggregate_id)
WHERE coalesce(i.parked, false) <> (p.events IS NOT NULL)
"""
_FLAGGED = "SELECT (SELECT count(*) FROM {s}.inbox) + (SELECT count(*) FROM {s}.parked)"


async def nothing_is_set_aside(at: Look) -> Seen:
    """I18: no event waits for a person's decision, and exactly the aggregates of such events are frozen."""
    return Seen(await _counted(at, _FLAGGED), await _found(at, _PARKED) + await _found(at, _FLAGS))


_WAITING = "SELECT format('{s}: outbox row %s is not sent', id) FROM {s}.outbox_unsent ORDER BY id"


async def everything_is_sent_and_ready(at: Look) -> Seen:
    """I23: outboxes are empty and every service calls itself ready."""
    wrong = await _found(at, _WAITING)
    examined = await _counted(at, _EVENTS_HELD)
    if at.scene.readiness is not None:
        unready = await at.scene.readiness()
        wrong += [f"{service} is not ready: {why}" for service, why in sorted(unready.items())]
    return Seen(examined, wrong)


CHECKS = (
    Check("I11", "every answered command has its effect", every_answered_command_has_its_effect),
    Check("I12", "every event has a cause that exists", every_event_has_a_cause),
    Check("I13", "every event was applied by every subscriber", every_event_is_in_every_inbox, settles=True),
    Check("I14", "versions of each aggregate are 1 to n, in order", versions_without_holes),
    Check("I15-offsets", "every partition is read to its end", every_partition_is_read_to_its_end, settles=True),
    Check("I15-consumed", "consumers counted what relays sent", consumers_counted_what_relays_sent, settles=True),
    Check("I15-sent", "relays counted what their outboxes hold", relays_counted_what_outboxes_hold),
    Check("I18", "no event is set aside, nothing else is frozen", nothing_is_set_aside, settles=True),
    Check("I23", "outboxes are empty and services ready", everything_is_sent_and_ready, settles=True),
)
