"""The arrears flag (欠费): up when a stay owes more than it may, down when it does not any more. The account is locked first."""

from uuid import UUID

from services.billing import arrears, arrears_store, store
from services.billing.arrears import ArrearsPolicy
from services.billing.domain import Account, NoAccount, NotOpen
from shared.contracts.billing import ArrearsCleared, ArrearsRaised
from shared.db import Database, Transaction, transaction
from shared.messaging import outbox

STAYS_PER_LOOK = 200


async def raise_flag(tx: Transaction, account: Account, *, owed_fen: int, limit_fen: int) -> None:
    """Raise the flag of a locked account and announce it, once."""
    if await arrears_store.insert_arrears(tx, account.id, limit_fen):
        outbox.append(
            tx,
            ArrearsRaised(
                account_id=account.id, encounter_id=account.encounter_id, owed_fen=owed_fen, limit_fen=limit_fen
            ),
        )


async def clear_flag(tx: Transaction, account: Account, *, owed_fen: int, limit_fen: int | None = None) -> None:
    """Take the flag of a locked account down when no more is owed than it may, and announce it."""
    if await arrears_store.end_arrears(tx, account.id, owed_fen, limit_fen):
        outbox.append(tx, ArrearsCleared(account_id=account.id, encounter_id=account.encounter_id, owed_fen=owed_fen))


async def judge(tx: Transaction, policy: ArrearsPolicy, *, encounter_id: UUID) -> None:
    """Put the flag of one stay as it should be; a settled or voided account owes nothing."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return
    owed_fen = arrears.owed_fen(account.receivable_fen, account.deposits_fen)
    limit_fen = (await arrears_store.get_credit(tx, account.id)).limit_fen(policy)
    if account.state in ("open", "billing") and owed_fen > limit_fen:
        await raise_flag(tx, account, owed_fen=owed_fen, limit_fen=limit_fen)
    else:
        await clear_flag(tx, account, owed_fen=owed_fen, limit_fen=max(limit_fen, owed_fen))


async def judge_all(db: Database, policy: ArrearsPolicy) -> None:
    """Put right every flag that is not as it should be: bed days, free amounts and reversals move what is owed, too."""
    async with db.pool.acquire(timeout=10) as conn:
        found = await arrears_store.list_to_judge(conn, policy, rows_max=STAYS_PER_LOOK)
    for encounter_id in found:
        async with transaction(db) as tx:
            tx.correlation_id = encounter_id
            await judge(tx, policy, encounter_id=encounter_id)


async def approve_credit(
    tx: Transaction, policy: ArrearsPolicy, *, encounter_id: UUID, limit_fen: int, reason: str
) -> Account | NoAccount | NotOpen:
    """Let a stay owe up to this much, treatment first (信用就医, R55), and put its flag as that wants it."""
    account = await store.lock_account(tx, encounter_id)
    if account is None:
        return NoAccount()
    if account.state != "open":
        return NotOpen(account.state)
    await arrears_store.approve_credit(tx, account.id, limit_fen, reason)
    await judge(tx, policy, encounter_id=encounter_id)
    return account
