"""The database's own guard over money: what it refuses whoever asks, and what the nightly check finds."""

import asyncio
import os
import signal
import sys
from uuid import uuid4

import asyncpg
import pytest

from services.billing import bill_actions
from services.billing.domain import LedgerAccount, TooMuch
from services.billing.ports import Order
from shared.db import migrate
from shared.ids import new_id
from tests.conftest import Databases
from tests.integration.billing.conftest import NOON, Desk

pytestmark = pytest.mark.asyncio


async def a_bill_paid_through_the_channel(desk: Desk):
    """Settle a stay by a bill: half in cash, half by a code somebody scanned; its receipt is still to be issued."""
    stay = await desk.open()
    await desk.charge(stay, 80_00)
    drafted = await desk.do(bill_actions.draft_bill, encounter_id=stay, as_self_pay=True, fund_connected=False)
    bill = {"encounter_id": stay, "bill_id": drafted.bill.id}
    await desk.do(bill_actions.confirm_bill, **bill, shown_hash=drafted.bill.lines_hash)
    await desk.do(bill_actions.pay_at_desk, **bill, amount_fen=30_00, method="cash")
    ordered = await desk.do(bill_actions.order_payment, **bill, amount_fen=50_00, method="wechat")
    paid = Order(ordered.payment.order_no, "paid", 50_00, "T1", NOON)
    await desk.do(bill_actions.take_paid_order, payment_id=ordered.payment.id, order=paid)
    assert await desk.account(stay) == ("closed", 0, 0)


async def a_busy_desk(desk: Desk):
    """Return the stay of an open account with a bit of everything, beside a settled and a reopened one."""
    for reopened in (False, True):
        other = await desk.open()
        await desk.deposit(other, 50_00, "wechat")
        await desk.charge(other, 60_00)
        await desk.settle(other, 60_00, "bank_card")
        if reopened:
            await desk.reopen(other)
    await a_bill_paid_through_the_channel(desk)
    stay = await desk.open()
    await desk.deposit(stay, 50_00)
    await desk.charge(stay, 20_00)
    wrong = await desk.charge(stay, 30_00)
    await desk.reverse(stay, wrong.entry_id)
    await desk.furnish()
    await desk.transfuse(stay, 1)
    await desk.waive(stay, 200_00)
    return stay


async def test_the_chart_of_accounts_is_the_same_in_code_and_database(desk: Desk):
    rows = await desk.fetch("SELECT id, code FROM ledger_account")
    assert {row["code"].upper(): row["id"] for row in rows} == {each.name: each.value for each in LedgerAccount}


async def post_by_hand(desk: Desk, stay, lines):
    """Write an entry with these lines past every function, as somebody with all rights could."""
    entry_id = new_id()
    async with desk.db.pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "INSERT INTO entry (id, account_id, kind, item, at, charge_fen) SELECT $2, id, 'charge', 'x', now(), 100"
            " FROM account WHERE encounter_id = $1",
            stay,
            entry_id,
        )
        for ledger_account, fen in lines:
            await conn.execute("INSERT INTO line VALUES ($1, $2, $3)", entry_id, ledger_account, fen)


async def test_an_entry_that_does_not_balance_is_refused_at_commit(desk: Desk):
    stay = await desk.open()
    for lines, what in (
        ([], "an empty entry"),
        ([(1, 100)], "an entry with one line"),
        ([(1, 100), (10, -99)], "an entry that loses a fen"),
        ([(1, 99), (10, -99)], "a charge that says another sum than its line"),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await post_by_hand(desk, stay, lines)
        assert await desk.value("SELECT count(*) FROM entry") == 0, what


async def test_lines_cannot_be_added_to_an_old_entry_or_to_none(desk: Desk):
    charge = await desk.charge(await desk.open(), 10_00)
    with pytest.raises(asyncpg.CheckViolationError):
        await desk.value("INSERT INTO line VALUES ($1, 20, 5)", charge.entry_id)
    with pytest.raises(asyncpg.CheckViolationError):
        await desk.value("INSERT INTO line VALUES ($1, 20, 5), ($1, 10, -5)", uuid4())


async def test_what_was_posted_is_never_changed_removed_or_truncated(desk: Desk):
    await a_busy_desk(desk)
    for table in ("entry", "line", "settlement", "ledger_account", "account"):
        column = {"line": "fen", "settlement": "charged_fen", "ledger_account": "code"}.get(table, "id")
        statements = [f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"]
        if table != "account":
            statements.append(f"UPDATE {table} SET {column} = {column}")
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await desk.value(statement)


async def test_an_account_cannot_be_closed_while_a_fen_is_owed_or_held(desk: Desk):
    stay = await desk.open()
    await desk.charge(stay, 1)
    with pytest.raises(asyncpg.CheckViolationError):
        await desk.value("UPDATE account SET state = 'closed' WHERE encounter_id = $1", stay)
    with pytest.raises(asyncpg.CheckViolationError):
        await desk.value("UPDATE account SET state = 'voided' WHERE encounter_id = $1", stay)


async def test_a_charge_of_nothing_or_less_is_refused(desk: Desk):
    stay = await desk.open()
    for fen in (0, -1):
        with pytest.raises(asyncpg.CheckViolationError):
            await desk.charge(stay, fen)
        with pytest.raises(asyncpg.CheckViolationError):
            await desk.deposit(stay, fen)


async def test_the_largest_amount_is_exact_and_one_fen_more_is_refused(desk: Desk):
    stay = await desk.open()
    largest = 10_000_000_000_000
    await desk.charge(stay, largest)
    await desk.deposit(stay, largest - 1)
    assert await desk.charge(stay, 1) == TooMuch()
    assert await desk.deposit(stay, 2) == TooMuch()
    assert await desk.account(stay) == ("open", largest, largest - 1)
    assert (await desk.settle(stay, largest - 1)).charged_fen == largest
    assert (await desk.settle(stay, largest)).settlement.collected_fen == 1


async def test_only_real_moves_between_two_accounts_of_the_chart_are_posted(desk: Desk):
    stay = await desk.open()
    account_id = await desk.value("SELECT id FROM account WHERE encounter_id = $1", stay)
    for debit, credit, fen in ((1, 10, 0), (1, 10, -5), (1, 10, None), (1, 99, 5), (99, 10, 5), (1, 1, 5)):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await desk.value(
                "SELECT post_entries($1, NULL, now(), NULL, $2, $3, $4, $5, $6, $7)",
                account_id,
                [new_id()],
                ["deposit"],
                [None],
                [debit],
                [credit],
                [fen],
            )
    assert await desk.value("SELECT count(*) FROM line") == 0


async def test_the_same_entry_id_is_posted_once(desk: Desk):
    stay = await desk.open()
    entry_id = new_id()
    await desk.value("SELECT outcome FROM post_charge($1, $2, 'x', 5, now())", stay, entry_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        await desk.value("SELECT outcome FROM post_charge($1, $2, 'x', 5, now())", stay, entry_id)
    assert await desk.account(stay) == ("open", 5, 0)
    desk.tampered = True  # type: ignore[attr-defined]  # charged without an event, on purpose


async def test_the_database_itself_refuses_a_second_reversal_and_one_of_another_account(desk: Desk):
    stay, other = await desk.open(), await desk.open()
    account_id = await desk.value("SELECT id FROM account WHERE encounter_id = $1", stay)
    other_id = await desk.value("SELECT id FROM account WHERE encounter_id = $1", other)
    charge = await desk.charge(stay, 10_00)
    await desk.charge(stay, 10_00)
    reversal = await desk.reverse(stay, charge.entry_id)
    post = "SELECT post_reversals($1, $2, $3, 'again', now(), NULL)"
    with pytest.raises(asyncpg.UniqueViolationError):
        await desk.value(post, account_id, [charge.entry_id], [new_id()])
    for account, original in ((other_id, charge.entry_id), (account_id, reversal.entry_id), (account_id, uuid4())):
        with pytest.raises(asyncpg.CheckViolationError):
            await desk.value(post, account, [original], [new_id()])


async def test_a_reopening_that_forgets_a_child_is_refused(desk: Desk):
    stay = await desk.open()
    await desk.deposit(stay, 5)
    await desk.charge(stay, 10)
    settled = await desk.settle(stay, 10)
    children = [posting.entry_id for posting in settled.settlement.postings]
    assert len(children) == 2
    with pytest.raises(asyncpg.CheckViolationError):
        await desk.value(
            "SELECT reopen_settlements($1, $2, $3, 'x', now(), NULL)",
            settled.account.id,
            children[:1],
            [new_id()],
        )
    assert await desk.account(stay) == ("closed", 0, 0)


async def test_the_services_own_role_can_post_but_neither_write_lines_nor_balances(databases: Databases):
    dsn = await databases.create()
    role = f"ws_billing_{uuid4().hex[:8]}"
    owner = await asyncpg.connect(dsn)
    await owner.execute(f"CREATE ROLE {role}")
    await migrate(dsn, "billing", app_role=role)
    try:
        await owner.execute(f"SET search_path = billing, public; SET ROLE {role}")
        stay, account_id, entry_id = uuid4(), new_id(), new_id()
        await owner.execute(
            "INSERT INTO account (id, encounter_id, patient_tok, payer_kind, day_case) VALUES ($1, $2, $2, 'self_pay', false)",
            account_id,
            stay,
        )
        posted = await owner.fetchrow("SELECT * FROM post_charge($1, $2, 'x', 5, now())", stay, entry_id)
        assert posted is not None
        assert (posted["outcome"], posted["o_charged_fen"]) == ("posted", 5)
        assert await owner.fetchval("SELECT sum(balance_fen) FROM ledger_balance") == 0
        await owner.execute(
            "CREATE TEMP TABLE line (LIKE billing.line); CREATE TEMP TABLE account (LIKE billing.account)"
        )
        await owner.fetchrow("SELECT * FROM post_charge($1, $2, 'x', 5, now())", stay, new_id())
        assert await owner.fetchval("SELECT receivable_fen FROM billing.account") == 10, (
            "no temporary table stands in front"
        )
        for statement in (
            "INSERT INTO billing.line VALUES (gen_random_uuid(), 1, 5)",
            "INSERT INTO billing.entry (id, account_id, kind, at) VALUES (gen_random_uuid(), gen_random_uuid(), 'deposit', now())",
            "UPDATE billing.account SET receivable_fen = 0",
            "UPDATE billing.account SET state = 'closed'",
            "UPDATE billing.line SET fen = 1",
            "UPDATE billing.settlement SET charged_fen = 1",
            "DELETE FROM billing.entry",
            "TRUNCATE billing.line",
            "INSERT INTO billing.ledger_account VALUES (99, 'x', 'from_lines', 'x')",
            "INSERT INTO billing.account (id, encounter_id, patient_tok, payer_kind, deposits_fen)"
            " VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'self_pay', 5)",
            "SELECT billing.move_balances(gen_random_uuid(), 5, 0)",
            "ALTER TABLE billing.line DISABLE TRIGGER ALL",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await owner.execute(statement)
    finally:
        await owner.execute("RESET ROLE")
        await owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
        await owner.close()
        await databases.drop(dsn)


TAMPERINGS = (
    ("I5", "UPDATE account SET receivable_fen = receivable_fen + 1 WHERE state = 'open'"),
    ("I4", "UPDATE line SET fen = fen + 1 WHERE ledger_account_id = 10"),
    ("D3", "UPDATE account SET deposits_fen = deposits_fen + 1 WHERE state = 'open'"),
    ("V14", "UPDATE account SET receivable_fen = receivable_fen + 1 WHERE state = 'open'"),
    ("I7", "DELETE FROM outbox WHERE id = (SELECT max(id) FROM outbox WHERE type LIKE '%ChargePosted%')"),
    ("I9", "UPDATE line SET fen = fen * 3 WHERE entry_id IN (SELECT id FROM entry WHERE kind = 'deposit_applied')"),
    ("I10", "UPDATE settlement SET reopened_at = now(), reopen_reason = 'x' WHERE reopened_at IS NULL"),
    ("V12", "DELETE FROM entry WHERE reverses IN (SELECT id FROM entry WHERE settlement_id IS NOT NULL)"),
    ("R52", "UPDATE settlement SET collected_fen = collected_fen + 1, charged_fen = charged_fen + 1"),
    ("I4", "UPDATE line SET ledger_account_id = 77 WHERE ledger_account_id = 20"),
    ("I4", "DELETE FROM line WHERE entry_id = (SELECT id FROM entry WHERE kind = 'charge' LIMIT 1)"),
    ("I4", "UPDATE line SET fen = fen * 2 WHERE entry_id IN (SELECT id FROM entry WHERE kind = 'reversal')"),
    ("I7", "UPDATE outbox SET body = jsonb_set(body, '{amount_fen}', '1') WHERE type LIKE '%ChargePosted%'"),
    ("I9", "UPDATE line SET fen = fen / 2 WHERE entry_id IN (SELECT id FROM entry WHERE kind = 'deposit')"),
    ("I4", "DELETE FROM entry WHERE kind = 'reversal'"),
    ("I10", "UPDATE account SET state = 'open' WHERE state = 'closed'"),
    ("R53", "UPDATE bill SET charged_fen = charged_fen + 1, patient_fen = patient_fen + 1 WHERE state = 'settled'"),
    (
        "R53",
        "UPDATE settlement SET payer_fen = 1, collected_fen = collected_fen - 1 WHERE collected_fen > 0",
    ),
    ("I6", "UPDATE payment SET amount_fen = amount_fen + 1 WHERE state = 'paid'"),
    ("I6", "UPDATE line SET ledger_account_id = 20 WHERE ledger_account_id = 25"),
    ("I17", "DELETE FROM errand"),
    ("BIL-9", "UPDATE priced_charge SET reversed_by = entry_id, reversal_reason = 'x'"),
    ("BIL-9", "DELETE FROM blood_waiver"),
    ("BIL-9", "UPDATE line SET ledger_account_id = 20 WHERE ledger_account_id = 26"),
)


async def test_every_check_examines_real_rows_and_finds_what_a_database_administrator_changed(desk: Desk):
    await a_busy_desk(desk)
    assert await desk.violations() == []
    examined = await desk.fetch("SELECT check_id, examined FROM ledger_examined()")
    assert {row["check_id"] for row in examined} == {check for check, _ in TAMPERINGS}
    assert all(row["examined"] > 0 for row in examined), examined
    for check, statement in TAMPERINGS:
        async with desk.db.pool.acquire() as conn:
            tampering = conn.transaction()
            await tampering.start()
            await conn.execute("SET LOCAL session_replication_role = replica")
            await conn.execute(statement)
            found = await conn.fetch("SELECT check_id, object, detail FROM ledger_violations()")
            await tampering.rollback()
        assert check in {row["check_id"] for row in found}, (check, statement, found)
        assert all(row["object"] and row["detail"] for row in found)


CHARGE_AND_DIE = """
import asyncio, sys
from uuid import UUID
from services.billing import actions
from shared.clock import Clock
from shared.db import Database, create_pool, transaction
from shared.settings import ServiceSettings

async def main():
    db = Database(await create_pool(ServiceSettings(database_url=sys.argv[1])), Clock())
    async with transaction(db) as tx:
        await actions.post_charge(tx, encounter_id=UUID(sys.argv[2]), item="x", amount_fen=7)
    await db.pool.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(("point", "owed"), [("K6", 0), ("", 7)])
async def test_a_process_that_dies_right_after_the_ledger_lines_has_charged_nothing(desk: Desk, databases, point, owed):
    stay = await desk.open()
    name = await desk.value("SELECT current_database()")
    dsn = f"{databases.admin_dsn.rpartition('/')[0]}/{name}?options=-csearch_path%3Dbilling%2Cpublic"
    done = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHARGE_AND_DIE,
        dsn,
        str(stay),
        env={**os.environ, "WARDSTREAM_FAULT_POINT": point},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await done.communicate()
    assert done.returncode == (-signal.SIGKILL if point else 0), said.decode()
    # The server notices the lost session by itself; a lock it still held would make this wait, not lie.
    assert await desk.account(stay) == ("open", owed, 0)
    assert await desk.value("SELECT count(*) FROM entry") == (1 if owed else 0)
    await desk.charge(stay, 1)
    assert await desk.account(stay) == ("open", owed + 1, 0)


async def test_facts_keep_the_time_they_happened(desk: Desk):
    await desk.charge(await desk.open(), 5)
    assert await desk.value("SELECT at FROM entry") == NOON
