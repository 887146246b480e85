import time, os
from uuid import uuid4
import pytest
from shared.db import Transaction
from shared.messaging import outbox
from services.followup import actions, store, domain
from services.followup.consumers import POLICY
from services.followup.domain import Moment, Archive, Stay
pytestmark = pytest.mark.asyncio
def cpu(pid):
    f=open(f"/proc/{pid}/stat").read().split(); return (int(f[13])+int(f[14]))/os.sysconf("SC_CLK_TCK")*1000
async def test_speed(office):
    N=1000
    async with office.db.pool.acquire() as conn:
        pid = await conn.fetchval("SELECT pg_backend_pid()")
        async def meter(name, fn):
            c0,p0,t0=cpu(pid),time.process_time(),time.perf_counter()
            for _ in range(N): await fn()
            print(f"{name}: backend {(cpu(pid)-c0)/N:.3f} cpu-ms, python {(time.process_time()-p0)/N*1000:.3f} cpu-ms, wall {(time.perf_counter()-t0)/N*1000:.2f}")
        async with conn.transaction():
            tx = Transaction(conn=conn, now=office.clock.at)
            async def whole():
                await actions.plan_follow_up(tx, uuid4(), uuid4(), left_at=office.clock.at, disposition="1", left=actions.Left(specialty="x"), moment=Moment(office.clock.at), policy=POLICY)
            for _ in range(3):
                await meter("whole", whole)
                tx.events.clear()
            await meter("lock", lambda: conn.fetchval("SELECT lock_archive($1,$2,$3)", uuid4(), uuid4(), office.clock.at))
            await meter("bare", lambda: conn.fetchval("SELECT 1"))
            async def pure():
                s=Stay(uuid4(),uuid4(),None,office.clock.at,"discharged","1"); a=Archive(s.patient_tok).with_stay(s)
                p=domain.new_plan(s,a,POLICY,Moment(office.clock.at),procedure=None,specialty=None); domain.review(p,a,POLICY,Moment(office.clock.at))
            await meter("pure", pure)
            async def write():
                s=Stay(uuid4(),uuid4(),None,office.clock.at,"discharged","1"); a=Archive(s.patient_tok).with_stay(s)
                await conn.execute("INSERT INTO archive(patient_tok) VALUES($1)", s.patient_tok)
                p=domain.new_plan(s,a,POLICY,Moment(office.clock.at),procedure=None,specialty=None)
                await store.write_plans(tx,s,[p])
            await meter("write+insert archive+pure", write)
            for r in await conn.fetch("EXPLAIN (ANALYZE, BUFFERS) "+store._WRITE, [], [], []): print(r[0])
