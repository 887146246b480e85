"""Nobody who left alive is forgotten: discharges and the contacts they owe (I16)."""

from infra.audit.check import Check, Look, Seen, sql_check

_NEEDS = frozenset({"admission", "daysurgery", "followup"})

_LEFT = """
SELECT encounter_id FROM admission.encounter WHERE state = 'discharged' AND disposition <> '5'
UNION ALL SELECT encounter_id FROM daysurgery.day_case WHERE state = 'discharged' AND disposition <> '5'
"""
_PLANS = f"""
WITH gone AS ({_LEFT}),
owed AS (SELECT p.plan_id, p.encounter_id, unnest(p.items) AS item FROM followup.plan p)
SELECT format('stay %s left and has no follow-up plan', g.encounter_id)
FROM gone g LEFT JOIN followup.plan p USING (encounter_id) WHERE p.plan_id IS NULL
UNION ALL
SELECT format('plan %s is of stay %s, of which no discharge was ever announced', p.plan_id, p.encounter_id)
FROM followup.plan p
WHERE NOT EXISTS (SELECT FROM admission.outbox o WHERE o.aggregate_id = p.encounter_id::text AND o.type LIKE '%.PatientDischarged.v%')
  AND NOT EXISTS (SELECT FROM daysurgery.outbox o WHERE o.body ->> 'encounter_id' = p.encounter_id::text AND o.type LIKE '%.DaySurgeryDischarged.v%')
UNION ALL
SELECT format('plan %s owes %s, %s such tasks are there', coalesce(o.plan_id, t.plan_id), coalesce(o.item, t.item), coalesce(t.tasks, 0))
FROM owed o FULL JOIN (SELECT plan_id, item, count(*) AS tasks FROM followup.task GROUP BY plan_id, item) t USING (plan_id, item)
WHERE o.plan_id IS NULL OR t.tasks IS DISTINCT FROM 1
"""  # noqa: S608 - both parts are ours


async def no_rule_of_follow_up_is_broken(at: Look) -> Seen:
    """I16: follow-up's own list of broken rules is empty."""
    async with at.in_schema("followup"):
        examined = await at.count("SELECT sum(examined)::bigint FROM followup_examined()")
        wrong = await at.texts("SELECT format('%s %s', \"check\", object) FROM followup_violations()")
    return Seen(examined, wrong)


CHECKS = (
    sql_check(
        "I16",
        "discharges x plan = follow-up tasks",
        needs=_NEEDS,
        examined=f"SELECT (SELECT count(*) FROM ({_LEFT}) gone) + (SELECT count(*) FROM followup.task)",  # noqa: S608
        wrong=_PLANS,
        settles=True,
    ),
    Check(
        "I16-rules",
        "follow-up's own list of broken rules is empty",
        no_rule_of_follow_up_is_broken,
        frozenset({"followup"}),
        settles=True,
    ),
)
