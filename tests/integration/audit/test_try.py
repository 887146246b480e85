import json
import pytest
pytestmark = pytest.mark.asyncio
async def test_try(evidence):
    found = await evidence.audit()
    for c in found["checks"]:
        print(c["id"], c["ok"], c["examined"], c["violations"], c["examples"], c.get("reason",""))
    print(found["seconds"], found["empty"])
