"""The house keeps its own rules: one writer per topic, one anatomy for all services, nothing that grows without end."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from infra.cli.house import readers, spec_of
from infra.local.home import PROJECT_ROOT
from infra.local.services import SERVICES
from shared.contracts.export import exported_examples, exported_schemas, stem_of
from shared.contracts.registry import EVENT_TOPICS, EVENTS, MODULES, SERVICES_WITH_EVENTS, TOPICS
from shared.telemetry.names import METRICS

FUNCTION_LINES_MAX = 95
"""The longest function there is. This number may only fall."""

FUNCTION_LINES_SLACK = 10
"""How much shorter the longest function may be before the number above must follow it down."""

FILE_LINES_MAX = 700

ANATOMY = ("__init__", "domain", "actions", "store", "consumers", "api", "settings", "main")
"""The files of a service that takes part in the patient's journey; each may become a folder of the same name."""

PARTS = {
    "access": ("__init__", "domain", "actions", "store", "api", "settings", "main"),
    "insight": ("__init__", "domain", "actions", "store", "streams", "api", "settings", "main"),
}
"""The two that announce nothing: access knows staff only, insight looks on."""

CODE = ("services", "shared", "infra", "tests")
EVENT_BY_NAME = {event.__name__: event for event in EVENTS.values()}
CONTRACT_MODULES = {module.__name__ for module in MODULES}


def sources(*folders: str, ending: str = ".py") -> list[Path]:
    return sorted(path for folder in folders for path in (PROJECT_ROOT / folder).rglob(f"*{ending}"))


def shown(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), shown(path))


def event_names_in(module: ast.Module) -> dict[str, str]:
    """Return the names under which a module knows events: local name -> name of the event."""
    return {
        (alias.asname or alias.name): alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module in CONTRACT_MODULES
        for alias in node.names
        if alias.name in EVENT_BY_NAME
    }


def announced_in(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every event a module makes, whichever way: `BedFreed(…)` or `BedFreed.model_construct(…)`."""
    module = tree(path)
    known = event_names_in(module)
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        made = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        if isinstance(made, ast.Name) and made.id in known:
            yield known[made.id], node.lineno


def has_part(service: str, part: str) -> bool:
    folder = PROJECT_ROOT / "services" / service
    return (folder / f"{part}.py").is_file() or (folder / part / "__init__.py").is_file()


# ---- facts -----------------------------------------------------------------------------------------------------------


def test_every_topic_belongs_to_the_service_in_its_name():
    for topic in EVENT_TOPICS.values():
        assert re.fullmatch(rf"{topic.owner}\.[a-z]+\.v\d+", topic.name), topic.name
        assert topic.owner in SERVICES_WITH_EVENTS
        assert topic.partitions == 12, "The number of partitions is fixed for life (R17)."


def test_every_event_of_a_contract_is_in_the_registry_and_under_one_name_only():
    found = [
        cls
        for module in MODULES
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and cls.__module__ == module.__name__
        and hasattr(cls, "ce_type")
        and hasattr(cls, "topic")
    ]
    facts = [cls for cls in found if not cls.__subclasses__()]
    assert sorted(cls.__name__ for cls in facts) == sorted(EVENT_BY_NAME)
    assert len(EVENT_BY_NAME) == len(EVENTS)


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.__name__)
def test_the_key_of_an_event_is_one_of_its_fields_and_the_same_for_its_whole_topic(event):
    assert event.key_field in event.model_fields
    assert event.key_field == event.topic.key


def test_no_service_announces_a_fact_of_another():
    strangers = [
        f"{shown(path)}:{line} makes {name}, which belongs to {EVENT_BY_NAME[name].topic.owner}"
        for service in SERVICES
        for path in sources(f"services/{service}")
        for name, line in announced_in(path)
        if EVENT_BY_NAME[name].topic.owner != service
    ]
    assert strangers == []


def test_every_event_is_announced_by_its_owner():
    made = {name for service in SERVICES for path in sources(f"services/{service}") for name, _ in announced_in(path)}
    assert sorted(EVENT_BY_NAME.keys() - made) == [], "A contract nobody ever fulfils is no contract."


def test_events_leave_through_the_outbox_only():
    """Beside `shared/messaging` nobody sends to the broker; services do not even import it (import contract 6)."""
    for path in sources("services"):
        if "streams" in path.name:
            continue
        for node in ast.walk(tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("aiokafka", "faust", "kafka")], shown(path)


def test_every_event_has_a_schema_and_an_example():
    exported = exported_schemas()
    for event in EVENTS.values():
        assert stem_of(event) in exported, f"{event.__name__}: run make schemas."
        assert exported_examples(event), f"{event.__name__}: run make schemas."


# ---- services --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_all_services_have_the_same_anatomy(service: str):
    parts = PARTS.get(service, ANATOMY)
    assert [part for part in parts if not has_part(service, part)] == []
    assert list((PROJECT_ROOT / "services" / service / "migrations").glob("[0-9]*.sql"))


def test_a_service_that_announces_or_takes_part_has_the_whole_anatomy():
    assert set(SERVICES_WITH_EVENTS) == set(SERVICES) - set(PARTS)


@pytest.mark.parametrize("service", SERVICES)
def test_the_contents_page_of_a_service_lists_its_topics_and_every_event_it_acts_on(service: str):
    page = import_module(f"services.{service}").__doc__ or ""
    read = readers().get(service, ())
    owned = [topic.name for topic in EVENT_TOPICS.values() if topic.owner == service]
    missing = [name for name in owned if name not in page]
    missing += [event.__name__ for event in read if not re.search(rf"\b{event.__name__}\b", page)]
    missing += [event.topic.name for event in read if event.topic.name not in page]
    assert missing == [], f"services/{service}/__init__.py does not list them."
    claimed = {name for name in EVENT_BY_NAME if re.search(rf"\b{name}\b", page)}
    acted_on = {event.__name__ for event in read}
    of_others = {name for name in claimed if EVENT_BY_NAME[name].topic.owner != service}
    assert of_others <= acted_on, f"services/{service}/__init__.py lists what the service does not act on."


@pytest.mark.parametrize("service", SERVICES)
def test_a_handler_is_named_after_its_event(service: str):
    for subscription in spec_of(service).subscriptions:
        handler = getattr(subscription.handler, "func", subscription.handler)
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", subscription.event.__name__).lower()
        assert handler.__name__ == f"on_{words}"


@pytest.mark.parametrize("service", SERVICES)
def test_migrations_are_numbered_without_a_gap_and_end_with_a_check(service: str):
    files = sorted((PROJECT_ROOT / "services" / service / "migrations").glob("*.sql"))
    assert [int(path.name[:4]) for path in files] == list(range(1, len(files) + 1))
    for path in files:
        assert re.search(r"^-- check: .+$", path.read_text("utf-8"), re.MULTILINE), f"{shown(path)} has no check."


# ---- what may leave --------------------------------------------------------------------------------------------------


def test_every_metric_is_registered_in_one_module():
    """`shared/telemetry/names.py` is that module; what is not there does not exist."""
    used: set[str] = set()
    for path in sources("services", "shared", "infra"):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if name in ("number", "histogram") and isinstance(first, ast.Constant) and isinstance(first.value, str):
                assert first.value in METRICS, f"{shown(path)}:{node.lineno}: {first.value} is not registered."
                used.add(first.value)
            assert name not in ("create_counter", "create_histogram", "create_gauge", "create_up_down_counter"), (
                f"{shown(path)}:{node.lineno}: make it with shared.telemetry, so that it is registered."
            )
    assert used, "This test no longer finds how metrics are made."


def test_metric_names_are_told_nowhere_else():
    for path in sources("services", "shared"):
        if path.name == "names.py":
            continue
        for node in ast.walk(tree(path)):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"flow_[a-z_]+", node.value)
            ):
                assert node.value in METRICS, f"{shown(path)}:{node.lineno}: {node.value} is not registered."


# ---- nothing grows without end ---------------------------------------------------------------------------------------


def functions() -> Iterator[tuple[int, str]]:
    for path in sources("services", "shared", "infra"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{shown(path)}:{node.lineno} {node.name}"


def test_no_function_is_longer_than_the_longest_one_there_was():
    lines, longest = max(functions())
    assert lines <= FUNCTION_LINES_MAX, f"{longest} has {lines} lines; split it, the number may only fall."
    assert lines > FUNCTION_LINES_MAX - FUNCTION_LINES_SLACK, (
        f"The longest function has {lines} lines now: lower the number."
    )


def test_no_file_grows_without_end():
    for path in [
        *sources(*CODE),
        *sources(*CODE, ending=".sql"),
        *sources("docs", ending=".md"),
        PROJECT_ROOT / "README.md",
    ]:
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= FILE_LINES_MAX, f"{shown(path)} has {lines} lines; split it by noun."


def test_nothing_depends_on_where_somebody_keeps_their_files():
    place = re.compile(r"(?<![\w./])/(?:home|root|Users|work|mnt|media)/\w")
    texts = [*sources(*CODE), *sources("docs", "infra", ending=".md"), *sources("infra", ending=".sh")]
    texts += [
        PROJECT_ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "docker-compose.yml")
    ]
    for path in texts:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            assert not place.search(line), f"{shown(path)}:{number} names a place on one machine."


def test_every_topic_the_launcher_creates_is_in_the_registry_once():
    assert len(TOPICS) == len({topic.name for topic in TOPICS.values()})
    assert set(EVENT_TOPICS) < set(TOPICS)
