"""The interface documents: AsyncAPI made from the registry, OpenAPI as each service serves it, and the commands that print them."""

import json

import pytest
from pydantic_asyncapi.v3 import AsyncAPI
from typer.testing import CliRunner

from infra.cli.documents import openapi_of
from infra.cli.house import readers
from infra.cli.main import app
from infra.local.services import SERVICES
from shared.contracts.asyncapi import document
from shared.contracts.registry import EVENT_TOPICS, EVENTS, TOPICS


def asyncapi() -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = document(readers())
    return found


def references(node: object) -> list[str]:
    """Return every $ref below a node."""
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [found for inside in node.values() for found in references(inside)]
    if isinstance(node, list):
        return [found for inside in node for found in references(inside)]
    return []


def test_the_asyncapi_document_is_asyncapi_3():
    AsyncAPI.model_validate(asyncapi())


def test_every_reference_of_the_asyncapi_document_leads_somewhere():
    whole = asyncapi()
    for reference in references(whole):
        node: object = whole
        for step in reference.removeprefix("#/").split("/"):
            assert isinstance(node, dict)
            assert step in node, reference
            node = node[step]


def test_the_asyncapi_document_lists_every_topic_with_owner_and_key_and_every_event_once():
    whole = asyncapi()
    assert {name: (c["x-owner"], c["x-key"]) for name, c in whole["channels"].items()} == {
        topic.name: (topic.owner, topic.key) for topic in TOPICS.values()
    }
    told = [name for name in whole["components"]["messages"] if name not in ("Beacon", "Parked", "Resync")]
    assert told == [event.__name__ for event in EVENTS.values()]


def test_the_asyncapi_document_says_who_sends_and_who_receives():
    whole = asyncapi()
    sends = {name for name, operation in whole["operations"].items() if operation["action"] == "send"}
    assert sends == {f"{topic.owner}.sends.{topic.name}" for topic in EVENT_TOPICS.values()}
    receives = {f"{service}.receives.{event.topic.name}" for service, events in readers().items() for event in events}
    assert whole["operations"].keys() - sends == receives


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_an_openapi_document_under_the_one_origin(service: str):
    found = openapi_of(service)
    assert found["openapi"].startswith("3.1")
    assert found["paths"]
    assert all(path.startswith(f"/api/{service}/") for path in found["paths"])
    operations = [operation for path in found["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)), "Two operations of one name."
    assert all(operation.get("summary") for operation in operations)


def test_the_documents_are_printed_as_one_json_object_on_stdout():
    for arguments in (["asyncapi", "--json"], ["openapi", "beds", "--json"], ["openapi", "billing"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert isinstance(json.loads(done.stdout), dict)


def test_the_committed_schemas_and_the_readme_are_current():
    done = CliRunner().invoke(app, ["schemas", "--check", "--json"])
    assert json.loads(done.stdout) == {"ok": True, "written": [], "problems": []}
    assert done.exit_code == 0


def test_a_service_that_does_not_exist_is_named_as_bad_input():
    assert CliRunner().invoke(app, ["openapi", "pharmacy"]).exit_code == 2
    assert CliRunner().invoke(app, ["schemas", "--against", "HEAD"]).exit_code == 2
    assert CliRunner().invoke(app, ["schemas", "--check", "--against", "no-such-revision"]).exit_code == 2
