"""Bad input at every door that changes something: its own clear answer, nothing of what was sent in it, nothing changed.

The table `DOORS` of every_door.py names every such door with a body it would take. Each test does one wrong thing at all doors of one service.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi.routing import APIRoute

from shared.access.keys import KeyRing
from shared.access.roles import Role
from shared.access.tokens import TOKEN_SECONDS
from shared.db import Database, create_pool
from shared.service import Runtime, create_app
from shared.web import BODY_BYTES_MAX, JSON_DEPTH_MAX
from tests.integration.doors.conftest import NOW, Doors
from tests.integration.doors.every_door import (
    CANARY,
    CANARY_FIELD,
    DOORS,
    EVERYBODY,
    NOT_FOUND,
    PASSWORD,
    REASON,
    SERVICES,
    SLOT,
    UNKNOWN,
    VERSION,
    At,
    Json,
    doors_of,
    with_body,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


def filled(value: Json, things: dict[str, str]) -> Json:
    """Put the ids of real things where a table says `{thing}`."""
    match value:
        case str():
            return re.sub(r"\{(\w+)\}", lambda found: things[found[1]] or str(uuid4()), value)
        case dict():
            return {key: filled(each, things) for key, each in value.items()}
        case list():
            return [filled(each, things) for each in value]
        case _:
            return value


def each_field_as(body: Json, wrong: Json) -> Iterator[Json]:
    """Give the body once per field, however deep, with that field replaced."""
    match body:
        case dict():
            for key, value in body.items():
                yield {**body, key: wrong}
                for inner in each_field_as(value, wrong):
                    yield {**body, key: inner}
        case [first, *rest]:
            for inner in [wrong, *each_field_as(first, wrong)]:
                yield [inner, *rest]
        case _:
            return


class Visitor:
    """Knocks with something wrong and looks at the answer."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors
        self.answers = 0

    async def refused(
        self,
        at: At,
        expected: tuple[int, str],
        *,
        body: Json = ...,
        things: dict[str, str] | None = None,
        **changes: Any,
    ) -> None:
        """Send the door's good request with these changes and check the refusal.

        A header changed to None is left out.
        """
        things = things or self.doors.things
        headers: dict[str, str | None] = {**at.headers, "X-Request-Id": CANARY}
        if not at.public:
            headers["Authorization"] = f"Bearer {self.doors.token(*EVERYBODY)}"
        if at.once:
            headers["Idempotency-Key"] = uuid4().hex
        headers |= changes.pop("headers", {})
        if "content" not in changes:
            sent = at.body if body is ... else body
            if sent is not None:
                changes["content"] = json.dumps(filled(sent, things))
        if "content" in changes:
            headers.setdefault("Content-Type", "application/json")
        response = await self.doors.knock(
            at.service,
            at.method,
            filled(at.path, things),
            headers={name: value for name, value in headers.items() if value is not None},
            **changes,
        )
        self.look_at(str(at), response, expected)

    def look_at(self, what: str, response: httpx2.Response, expected: tuple[int, str]) -> None:
        """Check that this is the expected problem document and repeats nothing."""
        said = f"{what}: {response.status_code} {response.text}"
        assert response.headers["content-type"] == "application/problem+json", said
        document = response.json()
        assert (response.status_code, document["code"]) == expected, f"{said}, expected {expected}"
        assert document["status"] == response.status_code, said
        assert document["type"] == f"urn:wardstream:problem:{expected[1]}", said
        assert document["title"], said
        assert document["detail"].endswith("."), f"{said}: a sentence ends with a full stop"
        shown = response.text + str(response.headers)
        for planted in (CANARY, CANARY_FIELD, PASSWORD):
            assert planted not in shown, said
        self.answers += 1


@asynccontextmanager
async def nothing_changes(doors: Doors) -> AsyncIterator[Visitor]:
    """Compare every table of every service, audit aside, before and after; at least one door was tried."""
    before = await doors.contents()
    assert before["admission.encounter"][0] >= 4, "the hospital is not empty"
    visitor = Visitor(doors)
    yield visitor
    assert visitor.answers > 0
    after = await doors.contents()
    assert {name: after[name] for name in after if after[name] != before[name]} == {}


every_service = pytest.mark.parametrize("service", SERVICES)
every_event_service = pytest.mark.parametrize("service", [service for service in SERVICES if service != "access"])


async def test_the_table_names_every_door_that_changes_something(doors: Doors):
    missing = []
    for service, app in doors.apps.items():
        known = {(at.method, re.sub(r"\{\w+\}", "{}", at.path)) for at in doors_of(service)}
        for path, item in app.openapi()["paths"].items():
            short = re.sub(r"\{\w+\}", "{}", path.removeprefix(f"/api/{service}"))
            changing = {"post", "put", "patch", "delete"} & item.keys()
            missing += [(service, method, path) for method in changing if (method.upper(), short) not in known]
    assert missing == [
        ("billing", "post", "/api/billing/channel/notices"),
        ("access", "post", "/api/access/refresh"),
        ("access", "post", "/api/access/logout"),
    ], "the first takes only what the channel signed, the others nothing but a cookie"


def routes_of(router: Any) -> Iterator[APIRoute]:
    """Give every route behind a router, those of the routers it includes with it."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from routes_of(route.original_router)


async def test_no_two_doors_have_one_address(doors: Doors):
    for service, app in doors.apps.items():
        places = [
            (method, re.sub(r"\{\w+\}", "{}", route.path)) for route in routes_of(app) for method in route.methods or ()
        ]
        assert len(places) >= len(doors_of(service)), f"{service}: this test no longer finds its doors"
        twice = {place for place in places if places.count(place) > 1}
        assert twice == set(), f"{service}: the second of two such doors is never opened"


# ---- what cannot be read --------------------------------------------------------------------------------------------


@every_service
@pytest.mark.parametrize(
    "content",
    [b'{"%s": ' % CANARY.encode(), CANARY.encode(), b'{"name": "\xff\xfe%s"}' % CANARY.encode(), b"9" * 5000],
    ids=["cut off", "plain words", "not UTF-8", "a number without end"],
)
async def test_what_is_not_json_is_refused(doors: Doors, service: str, content: bytes):
    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            await visitor.refused(at, (400, "not_json"), content=content)


@every_service
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", CANARY])
async def test_another_content_type_is_refused(doors: Doors, service: str, media_type: str):
    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            await visitor.refused(at, (415, "not_json"), headers={"Content-Type": media_type})


@every_service
async def test_a_body_of_two_mebibytes_is_refused_with_and_without_a_length(doors: Doors, service: str):
    large = json.dumps({CANARY: "x" * 2 * BODY_BYTES_MAX}).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(large), 65_536):
            yield large[at : at + 65_536]

    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            await visitor.refused(at, (413, "body_too_large"), content=large)
            await visitor.refused(at, (413, "body_too_large"), content=in_pieces())


@every_service
async def test_json_that_nests_too_deep_is_refused(doors: Doors, service: str):
    deep = f'{{"{CANARY}": ' + "[" * JSON_DEPTH_MAX + f'"{CANARY}"' + "]" * JSON_DEPTH_MAX + "}"
    very_deep = "[" * 200_000 + "]" * 200_000
    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            await visitor.refused(at, (400, "json_too_deep"), content=deep)
            await visitor.refused(at, (400, "json_too_deep"), content=very_deep)


# ---- what is wrong in the body --------------------------------------------------------------------------------------


@every_service
@pytest.mark.parametrize("wrong", [[CANARY], CANARY, 7731, True], ids=["a list", "a text", "a number", "a yes"])
async def test_a_body_that_is_no_object_is_refused(doors: Doors, service: str, wrong: Json):
    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            await visitor.refused(at, (422, "invalid_fields"), body=wrong)


@every_service
@pytest.mark.parametrize(
    "wrong",
    [{CANARY_FIELD: CANARY}, [[CANARY]], CANARY * 100, -7731.7731, float("nan"), 10**40],
    ids=["an object", "a list", "a very long text", "a fraction", "not a number", "a huge number"],
)
async def test_a_wrong_value_in_any_field_is_refused(doors: Doors, service: str, wrong: Json):
    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            for body in each_field_as(at.body, wrong):
                await visitor.refused(at, (422, "invalid_fields"), body=body)
        await visitor.refused(with_body(service)[-1], (422, "invalid_fields"), body={CANARY_FIELD: CANARY})


@every_service
@pytest.mark.parametrize("character", ["\0", "\ud800"], ids=["a zero byte", "half a character"])
async def test_a_text_the_database_cannot_hold_is_refused_in_any_field(doors: Doors, service: str, character: str):
    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            if at.path not in ("/login", "/me/password"):  # passwords are hashed, never stored: any text may be tried
                for body in each_field_as(at.body, character + CANARY):
                    if "password" not in str(at.body) or character + CANARY not in str(body.get("password")):
                        await visitor.refused(at, (422, "invalid_fields"), body=body)
        await visitor.refused(with_body(service)[-1], (422, "invalid_fields"), body={CANARY_FIELD: CANARY})


@every_service
async def test_an_unknown_field_is_refused_and_not_named(doors: Doors, service: str):
    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            await visitor.refused(at, (422, "invalid_fields"), body={**at.body, CANARY_FIELD: CANARY})


NEEDED = {
    *("identifier", "reason", "patient_tok", "amount_fen", "outcome", "beds", "by", "purpose"),
    *("password", "old_password"),
}
"""Where one of these is in the body, it cannot be left out."""


@every_service
async def test_a_missing_field_is_refused(doors: Doors, service: str):
    async with nothing_changes(doors) as visitor:
        for at in with_body(service):
            if NEEDED & at.body.keys() and at.method != "PATCH":
                await visitor.refused(at, (422, "invalid_fields"), body={})
            await visitor.refused(at, (422, "invalid_fields"), content=b"")


@every_event_service
async def test_the_past_needs_a_source_and_a_source_needs_the_past(doors: Doors, service: str):
    half = (
        {"source": "import"},
        {"occurred_at": NOW.isoformat()},
        {"source": CANARY, "occurred_at": NOW.isoformat()},
        {"source": "import", "occurred_at": CANARY},
        {"source": "import", "occurred_at": "2026-03-02T08:00:00"},
        {"source": "import", "occurred_at": 7731},
    )
    async with nothing_changes(doors) as visitor:
        for at in doors_of(service, fact=True):
            for wrong in half:
                await visitor.refused(at, (422, "invalid_fields"), body={**at.body, **wrong})


# ---- who is asking --------------------------------------------------------------------------------------------------


@every_service
async def test_a_token_that_is_missing_expired_forged_or_foreign_opens_no_door(doors: Doors, service: str):
    good = doors.token(*EVERYBODY)
    head, claims, signature = good.split(".")
    long_ago = NOW.timestamp() - 10 * TOKEN_SECONDS
    tokens = {
        None: "token_missing",
        f"Basic {CANARY}": "token_missing",
        "Bearer ": "token_missing",
        f"Bearer {CANARY}": "token_malformed",
        f"Bearer {CANARY}.{CANARY}.{CANARY}": "token_malformed",
        f"Bearer {CANARY}{'x' * 10_000}": "token_malformed",
        f"Bearer {doors.token(*EVERYBODY, now=long_ago)}": "token_expired",
        f"Bearer {doors.token(*EVERYBODY, ring=KeyRing.make(long_ago))}": "token_key_unknown",
        f"Bearer {head}.{claims}.{signature[::-1]}": "token_malformed",
        f"Bearer {head}.{doors.token(Role.IMPORTER).split('.')[1]}.{signature}": "token_malformed",
    }
    async with nothing_changes(doors) as visitor:
        for at in doors_of(service, public=False):
            for authorization, code in tokens.items():
                await visitor.refused(at, (401, code), headers={"Authorization": authorization})


@every_service
async def test_a_role_that_may_not_do_this_is_refused(doors: Doors, service: str):
    async with nothing_changes(doors) as visitor:
        for at in doors_of(service, public=False, anybody=False):
            for roles in ((), (Role.IMPORTER,), (Role.IMPORTER, Role.PRIVACY_OFFICER)):
                headers = {"Authorization": f"Bearer {doors.token(*roles)}"}
                await visitor.refused(at, (403, "not_your_role"), headers=headers)


NURSE = (Role.WARD_NURSE,)
OTHER_WARDS = [
    (At("admission", "POST", "/patients/{tok}/reveal", {"purpose": "call"}, once=False), NURSE),
    (At("admission", "GET", "/patients/{tok}", once=False), NURSE),
    (At("admission", "GET", "/encounters/{lying}", once=False), NURSE),
    (At("admission", "POST", "/encounters/{wanted}/admission", {}), NURSE),
    (At("admission", "POST", "/encounters/{lying}/discharge-order", {}), NURSE),
    (At("admission", "POST", "/encounters/{lying}/discharge", {}), NURSE),
    (At("beds", "GET", "/encounters/{lying}/allocation", once=False), NURSE),
    (At("beds", "POST", "/beds/{bed}/cleaning-done", {}), NURSE),
    (At("beds", "POST", "/encounters/{lying}/shares", {"kind": "companion"}), NURSE),
    (At("beds", "POST", "/shares/{share}/end", REASON), NURSE),
    (At("beds", "POST", "/encounters/{lying}/milestones/bill_ready"), NURSE),
    (At("beds", "POST", "/encounters/{lying}/leave-end-cancellation", REASON), NURSE),
    (At("beds", "POST", "/encounters/{wanted}/acceptance"), NURSE),
    (At("billing", "GET", "/encounters/{lying}/account", once=False), NURSE),
    (At("billing", "GET", "/encounters/{lying}/statement", once=False), NURSE),
    (At("billing", "POST", "/encounters/{lying}/charges", {"item": CANARY, "amount_fen": 100}), NURSE),
    (At("billing", "GET", "/encounters/{lying}/bed-days", once=False), NURSE),
    (At("billing", "GET", "/encounters/{lying}/timed-items", once=False), NURSE),
    (At("billing", "POST", "/encounters/{lying}/items", {"item": "LAB-CBC"}), NURSE),
    (At("billing", "POST", "/encounters/{lying}/bed-days", {}), NURSE),
    (At("billing", "POST", "/encounters/{gone}/charges", {"item": CANARY, "amount_fen": 100}), NURSE),
    (At("daysurgery", "GET", "/cases/{booked}", once=False), NURSE),
    (At("daysurgery", "POST", "/cases/{booked}/arrival", {}), NURSE),
    (At("daysurgery", "POST", "/cases/{booked}/operation-start", {}), NURSE),
    (At("followup", "GET", "/encounters/{gone}/plan", once=False), NURSE),
    (At("followup", "POST", "/tasks/{task}/completion", {"outcome": "well"}), (Role.PRIMARY_CARE_WORKER,)),
]


@pytest.mark.parametrize(("at", "roles"), OTHER_WARDS, ids=lambda value: str(value) if isinstance(value, At) else "")
async def test_what_lies_in_another_ward_is_nobodys_business(doors: Doors, at: At, roles: tuple[Role, ...]):
    headers = {"Authorization": f"Bearer {doors.token(*roles, wards=frozenset({'another-ward'}))}"}
    async with nothing_changes(doors) as visitor:
        await visitor.refused(at, (403, "not_your_ward"), headers=headers)


@every_event_service
@pytest.mark.parametrize("source", ["import", "downtime"])
async def test_only_an_importer_records_the_past(doors: Doors, service: str, source: str):
    past = {"source": source, "occurred_at": "2026-01-05T08:00:00+08:00"}
    async with nothing_changes(doors) as visitor:
        for at in doors_of(service, fact=True):
            await visitor.refused(at, (403, "not_your_role"), body={**at.body, **past})


async def test_who_may_not_record_the_past_is_written_into_the_audit(doors: Doors):
    at = doors_of("billing", fact=True)[0]
    count = "SELECT count(*) FROM audit WHERE outcome = 'denied' AND object_id = 'facts:import'"
    before = await doors.runtimes["billing"].db.pool.fetchval(count)
    past = {"source": "import", "occurred_at": "2026-01-05T08:00:00+08:00"}
    async with nothing_changes(doors) as visitor:
        await visitor.refused(at, (403, "not_your_role"), body={**at.body, **past})
    assert await doors.runtimes["billing"].db.pool.fetchval(count) == before + 1


# ---- keys and versions ----------------------------------------------------------------------------------------------


@every_service
async def test_a_missing_or_malformed_idempotency_key_is_refused(doors: Doors, service: str):
    async with nothing_changes(doors) as visitor:
        for at in doors_of(service, once=True):
            await visitor.refused(at, (400, "idempotency_key_missing"), headers={"Idempotency-Key": None})
            for bad in ("", "short", CANARY * 20, f"{CANARY} with blanks", f'"{CANARY}"'):
                await visitor.refused(at, (400, "idempotency_key_bad"), headers={"Idempotency-Key": bad})


AGAIN = [
    (At("admission", "POST", "/encounters", {"patient_tok": "{tok}"}), {"patient_tok": "{tok}", "specialty": CANARY}),
    (At("beds", "POST", "/beds", {"beds": [{"code": "X-1", "building": "X", "floor": 9, "ward": "X", "room": "X"}]}),
     {"beds": [{"code": CANARY, "building": "X", "floor": 9, "ward": "X", "room": "X"}]}),
    (At("billing", "POST", "/encounters/{lying}/deposits", {"amount_fen": 100, "method": "cash"}), {"amount_fen": 7731, "method": "cash"}),
    (At("daysurgery", "POST", "/cases", {"patient_tok": "{tok}", "procedure": "73761001"}), {"patient_tok": "{tok}", "procedure": CANARY}),
    (At("followup", "POST", "/tasks/{open_task}/completion", {"outcome": "well"}), {"outcome": "declined"}),
    (At("access", "POST", "/users", {"username": "nurse.new", "display_name": "New", "password": "correct horse battery", "roles": ["doctor"]}),
     {"username": "nurse.new", "display_name": CANARY, "password": "correct horse battery", "roles": ["doctor"]}),
]  # fmt: skip


@pytest.mark.parametrize(("at", "other_body"), AGAIN, ids=lambda value: str(value) if isinstance(value, At) else "")
async def test_a_key_used_again_for_something_else_is_refused(doors: Doors, at: At, other_body: Json):
    who = {"Authorization": f"Bearer {doors.token(*EVERYBODY)}", "Idempotency-Key": f"{CANARY}-{uuid4()}"}
    path = filled(at.path, doors.things)
    body = filled(at.body, doors.things)
    first = await doors.knock(at.service, at.method, path, json=body, headers=who)
    assert first.status_code < 300, first.text
    async with nothing_changes(doors) as visitor:
        await visitor.refused(at, (422, "idempotency_key_reused"), body=other_body, headers=who)
        again = await doors.knock(at.service, at.method, path, json=body, headers=who)
    assert (again.status_code, again.content) == (first.status_code, first.content), "the same again is answered again"
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_change_of_an_account_needs_the_version_that_was_read(doors: Doors):
    async with nothing_changes(doors) as visitor:
        for at in (at for at in DOORS if at.headers):
            await visitor.refused(at, (428, "version_required"), headers={"If-Match": None})
            for bad in (CANARY, f'"{CANARY}"', "*", 'W/"9999999999999999999"', "1"):
                await visitor.refused(at, (400, "bad_if_match"), headers={"If-Match": bad})
            for stale in ('W/"0"', '"7731"'):
                body = {"password": "a quite new password"} if at.method == "PUT" else at.body
                await visitor.refused(at, (412, "changed_meanwhile"), body=body, headers={"If-Match": stale})


# ---- what is not there, and what is not possible now ----------------------------------------------------------------


@every_service
async def test_a_thing_nobody_knows_is_refused(doors: Doors, service: str):
    async with nothing_changes(doors) as visitor:
        for at in doors_of(service):
            if at.unknown is not None:
                await visitor.refused(at, at.unknown, things={**doors.things, **UNKNOWN, "booked": ""})


@every_service
async def test_an_id_that_is_none_is_refused(doors: Doors, service: str):
    things = dict.fromkeys(doors.things, CANARY)
    async with nothing_changes(doors) as visitor:
        for at in doors_of(service):
            if "{" in at.path:
                # Any word could be a ward's code.
                expected = NOT_FOUND if "{ward}" in at.path else (422, "invalid_fields")
                await visitor.refused(at, expected, things=things)
        for path in (f"/{CANARY}", f"/{CANARY}/{CANARY}"):
            await visitor.refused(At(service, "POST", path, {}), (404, "http_404"))
        await visitor.refused(At(service, "DELETE", "/audit", once=False), (405, "http_405"))


@every_event_service
@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63, 10**30])
async def test_a_number_no_thing_can_have_is_refused(doors: Doors, service: str, number: int):
    async with nothing_changes(doors) as visitor:
        for at in doors_of(service):
            if "{bed}" in at.path or "{parked}" in at.path:
                expected = NOT_FOUND if 0 < number < 2**63 else (422, "invalid_fields")
                await visitor.refused(at, expected, things={**doors.things, "bed": str(number), "parked": str(number)})


READS = [
    ("admission", "/encounters?limit=zhugekongming-7731", (400, "bad_limit")),
    ("admission", "/encounters?limit=0", (400, "bad_limit")),
    ("admission", "/encounters?limit=201", (400, "bad_limit")),
    ("admission", "/encounters?limit=%C2%B2", (400, "bad_limit")),
    ("admission", "/encounters?after=zhugekongming-7731", (400, "bad_cursor")),
    ("admission", "/encounters?after=------------------------------------", (400, "bad_cursor")),
    ("admission", "/encounters?state=zhugekongming-7731", (400, "unknown_state")),
    ("admission", "/encounters?identifier=zhugekongming-7731", (404, "not_found")),
    ("admission", "/encounters?identifier=zhugekongming-7731%00", (422, "invalid_fields")),
    ("admission", "/encounters/zhugekongming-7731", (422, "invalid_fields")),
    ("admission", "/patients/zhugekongming-7731", (422, "invalid_fields")),
    ("admission", "/audit?patient=zhugekongming-7731", (422, "invalid_fields")),
    ("admission", "/audit?after=zhugekongming-7731", (400, "bad_cursor")),
    ("admission", "/parked?after=zhugekongming-7731", (400, "bad_cursor")),
    ("admission", "/parked?after=9999999999999999999999", (400, "bad_cursor")),
    ("beds", "/beds?ward=zhugekongming-7731%00", (422, "invalid_fields")),
    ("beds", "/encounters/zhugekongming-7731/allocation", (422, "invalid_fields")),
    ("billing", "/encounters/{lying}/statement?after=zhugekongming-7731", (400, "bad_cursor")),
    ("billing", "/encounters/{lying}/statement?after=99999999T999999.9_zhugekongming-7731", (400, "bad_cursor")),
    ("billing", "/encounters/zhugekongming-7731/account", (422, "invalid_fields")),
    ("billing", "/encounters/zhugekongming-7731/bed-days", (422, "invalid_fields")),
    ("billing", "/prices?on=zhugekongming-7731", (422, "invalid_fields")),
    ("billing", "/prices?q=zhugekongming-7731%00", (422, "invalid_fields")),
    ("billing", "/prices?after=%00", (400, "bad_cursor")),
    ("billing", "/prices?limit=zhugekongming-7731", (400, "bad_limit")),
    ("daysurgery", "/cases?date=zhugekongming-7731", (422, "invalid_fields")),
    ("daysurgery", "/cases?date=9999-12-31", (422, "invalid_fields")),
    ("daysurgery", "/cases?date=0001-01-01", (422, "invalid_fields")),
    ("daysurgery", "/cases?after=zhugekongming-7731", (400, "bad_cursor")),
    ("daysurgery", "/cases?identifier=zhugekongming-7731%00", (422, "invalid_fields")),
    ("followup", "/tasks?due_before=zhugekongming-7731", (422, "invalid_fields")),
    ("followup", "/tasks?after=zhugekongming-7731", (400, "bad_cursor")),
    ("followup", "/encounters/zhugekongming-7731/plan", (422, "invalid_fields")),
    ("access", "/users?after=zhugekongming-7731%00", (400, "bad_cursor")),
    ("access", "/users/zhugekongming-7731", (422, "invalid_fields")),
]


@pytest.mark.parametrize(("service", "path", "expected"), READS, ids=[f"{service}{path}" for service, path, _ in READS])
async def test_a_question_that_cannot_be_read_is_refused(
    doors: Doors, service: str, path: str, expected: tuple[int, str]
):
    async with nothing_changes(doors) as visitor:
        await visitor.refused(At(service, "GET", path, once=False), expected)


ILLEGAL = [
    ("admission", "/encounters/{lying}/admission", {}, "illegal_state_change"),
    ("admission", "/encounters/{second}/admission", {}, "already_in_hospital"),
    ("admission", "/encounters/{lying}/paperwork", {}, "nothing_pending"),
    ("admission", "/encounters/{lying}/cancellation", REASON, "illegal_state_change"),
    ("admission", "/encounters/{lying}/admission-cancellation", REASON, "charges_posted"),
    ("admission", "/encounters/{gone}/admission-cancellation", REASON, "illegal_state_change"),
    ("admission", "/encounters/{wanted}/discharge-order", {}, "illegal_state_change"),
    ("admission", "/encounters/{lying}/discharge-order-undo", REASON, "illegal_state_change"),
    ("admission", "/encounters/{wanted}/discharge", {}, "illegal_state_change"),
    ("admission", "/encounters/{gone}/discharge-cancellation", REASON, "settled"),
    ("beds", "/beds/{clean_bed}/cleaning-done", {}, "not_to_clean"),
    ("beds", "/encounters/{lying}/shares", {"kind": "companion"}, "companion_there"),
    ("beds", "/encounters/{wanted}/shares", {"kind": "companion"}, "host_not_in_bed"),
    ("beds", "/encounters/{lying}/transfer-cancellation", {**REASON, "lay_in_it": False}, "no_transfer"),
    ("beds", "/encounters/{lying}/announced-transfer-completion", None, "no_move_announced"),
    ("beds", "/encounters/{lying}/leave-cancellation", REASON, "not_on_leave"),
    ("beds", "/encounters/{lying}/acceptance", None, "nothing_held"),
    ("beds", "/encounters/{lying}/milestones/discharge_ordered", None, "ordered_by_doctor"),
    ("billing", "/encounters/{wanted}/charges", {"item": CANARY, "amount_fen": 1}, "no_account_yet"),
    ("billing", "/encounters/{gone}/charges", {"item": CANARY, "amount_fen": 1}, "account_closed"),
    ("billing", "/encounters/{gone}/deposits", {"amount_fen": 1, "method": "cash"}, "account_closed"),
    ("billing", "/encounters/{lying}/charges/{reversed}/reversal", REASON, "already_reversed"),
    ("billing", "/encounters/{lying}/settlement", {"method": "cash", "charged_fen": 7731}, "quote_outdated"),
    ("billing", "/encounters/{lying}/settlement-reopening", REASON, "not_settled"),
    ("billing", "/encounters/{lying}/items", {"item": CANARY}, "not_in_catalogue"),
    ("billing", "/encounters/{lying}/items", {"item": "OXY-HOUR"}, "charged_by_time"),
    ("billing", "/encounters/{gone}/items", {"item": "LAB-CBC"}, "account_closed"),
    ("billing", "/encounters/{lying}/timed-items", {"item": "OXY-HOUR"}, "runs_already"),
    ("billing", "/encounters/{lying}/timed-items", {"item": "LAB-CBC"}, "not_by_the_hour"),
    ("billing", "/encounters/{lying}/timed-items/{timed}/stop", {}, "stops_before_start"),
    ("billing", "/encounters/{gone}/bed-days", {}, "account_closed"),
    ("daysurgery", "/cases", {"patient_tok": "{tok}", "procedure": CANARY}, "procedure_not_in_catalogue"),
    ("daysurgery", "/cases/{booked}/booking", SLOT, "illegal_state_change"),
    ("daysurgery", "/cases/{case}/booking", {"starts_at": SLOT["ends_at"], "ends_at": SLOT["starts_at"]}, "slot_ends_before_it_starts"),
    ("daysurgery", "/cases/{booked}/operation-start", {}, "illegal_state_change"),
    ("daysurgery", "/cases/{booked}/operation-end", {}, "illegal_state_change"),
    ("daysurgery", "/cases/{booked}/discharge", {}, "illegal_state_change"),
    ("daysurgery", "/cases/{booked}/conversion", {"specialty": CANARY}, "illegal_state_change"),
    ("daysurgery", "/cases/{case}/arrival", {}, "illegal_state_change"),
    ("followup", "/tasks/{done}/completion", {"outcome": "well"}, "task_done"),
    ("access", "/users", {"username": "admin.one", "display_name": CANARY, "password": PASSWORD, "roles": ["admin"]}, "username_taken"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "path", "body", "code"), ILLEGAL, ids=[f"{service}{path} {code}" for service, path, _, code in ILLEGAL]
)
async def test_a_step_that_is_not_possible_now_is_refused(doors: Doors, service: str, path: str, body: Json, code: str):
    async with nothing_changes(doors) as visitor:
        await visitor.refused(At(service, "POST", path, body), (409, code))


async def test_the_last_administrator_stays(doors: Doors):
    async with nothing_changes(doors) as visitor:
        last = At("access", "PATCH", "/users/{user}", {"disabled": True}, headers=VERSION)
        await visitor.refused(last, (409, "last_administrator"))


# ---- one key, many at once ------------------------------------------------------------------------------------------

AT_ONCE = [
    (At("admission", "POST", "/encounters", {"patient_tok": "{tok}"}), "SELECT count(*) FROM admission.encounter"),
    (At("billing", "POST", "/encounters/{lying}/charges", {"item": "x-ray", "amount_fen": 731}), "SELECT count(*) FROM billing.entry"),
    (At("daysurgery", "POST", "/cases", {"patient_tok": "{tok}", "procedure": "73761001"}), "SELECT count(*) FROM daysurgery.day_case"),
]  # fmt: skip


@pytest.mark.parametrize(("at", "effects"), AT_ONCE, ids=lambda value: str(value) if isinstance(value, At) else "")
async def test_sixty_four_requests_with_one_key_at_two_replicas_have_one_effect(doors: Doors, at: At, effects: str):
    db = doors.runtimes[at.service].db
    who = {"Authorization": f"Bearer {doors.token(*EVERYBODY)}", "Idempotency-Key": uuid4().hex}
    path, body = filled(at.path, doors.things), filled(at.body, doors.things)
    counts = [effects, f"SELECT count(*) FROM {at.service}.outbox", f"SELECT count(*) FROM {at.service}.idem"]
    before = [await db.pool.fetchval(count) for count in counts]
    async with _another_replica(doors, at.service) as replica:
        apps = [doors.apps[at.service], replica] * 32
        answers = await asyncio.gather(
            *(doors.knock(at.service, at.method, path, app=app, json=body, headers=who) for app in apps)
        )
    after = [await db.pool.fetchval(count) for count in counts]
    done = [answer for answer in answers if answer.status_code == 201]
    waiting = [answer for answer in answers if answer.status_code != 201]
    assert done
    assert len({answer.content for answer in done}) == 1, "all who were answered got the same answer"
    assert sum("idempotency-replayed" not in answer.headers for answer in done) == 1, "it was done once"
    visitor = Visitor(doors)
    for answer in waiting:
        visitor.look_at(str(at), answer, (409, "in_progress"))
        assert answer.headers["retry-after"] == "1"
    grown = [now - then for now, then in zip(after, before, strict=True)]
    assert grown[0] == 1, f"{grown[0]} effects"
    assert grown[1] in (1, 2), f"{grown[1]} events"
    assert grown[2] == 1
    again = await doors.knock(at.service, at.method, path, json=body, headers=who)
    assert (again.status_code, again.content) == (201, done[0].content)


@asynccontextmanager
async def _another_replica(doors: Doors, service: str) -> AsyncIterator[Any]:
    """Open a second app of a service with sessions of its own."""
    first = doors.runtimes[service]
    db = Database(await create_pool(first.settings), first.db.clock)
    runtime = Runtime(first.spec, first.settings, db, first.verifier, first.make_producer, first.make_group)
    yield create_app(first.spec, lambda: runtime, first.verifier, run=False)
    db.pool.terminate()
