"""What the documents say exists: links, files, commands, doors, metrics, rules. A document that lies is worse than none."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from infra.cli.documents import openapi_of
from infra.cli.main import app
from infra.local.home import PROJECT_ROOT
from infra.local.services import SERVICES
from shared.contracts.registry import EVENTS
from shared.telemetry.names import METRICS

DOCUMENTS = [
    *(PROJECT_ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((PROJECT_ROOT / "docs").rglob("*.md")),
]
DECISIONS = sorted((PROJECT_ROOT / "docs" / "adr").glob("[0-9]*.md"))
FOLDERS = ("services/", "shared/", "infra/", "tests/", "docs/", "requirements/", "data/")
MADE_LATER = ("infra/compose/env",)
"""What a command of the same document makes."""

COMMAND: Any = typer.main.get_command(app)
TARGETS = set(re.findall(r"^([a-z-]+):", (PROJECT_ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def shown(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT))


def named(documents: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", documents, ids=shown)


def inline_code(text: str) -> list[str]:
    """Return what stands between single backticks, outside fenced blocks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def fenced(text: str, *languages: str) -> Iterator[str]:
    """Yield the lines of fenced blocks in one of these languages, without their comments."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        if language in languages:
            for line in block.splitlines():
                yield re.sub(r"\s+#.*$", "", line).strip()


def commands(text: str) -> list[str]:
    """Return every command a document tells somebody to type."""
    programs = ("make", "wardstream", ".venv/bin/", "python")
    found = [line for line in fenced(text, "sh", "bash") if line]
    found += [code for code in inline_code(text) if code.split()[0].startswith(programs)]
    return found


def slug(heading: str) -> str:
    """Return the anchor a heading gets on the usual hosts."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)}


@named(DOCUMENTS)
def test_every_link_leads_somewhere(document: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        assert place.exists(), f"{shown(document)} links to {target}, which is not there."
        assert place.is_relative_to(PROJECT_ROOT), f"{shown(document)} links outside: {target}"
        if anchor:
            assert anchor in anchors(place), f"{shown(document)} links to {target}; there is no such heading."


@named(DOCUMENTS)
def test_every_file_that_is_named_exists(document: Path):
    for code in inline_code(document.read_text("utf-8")):
        path = code.rstrip("/").split("::")[0]
        if path.startswith(FOLDERS) and not re.search(r"[<>{}*\s…]|NNNN", path) and path not in MADE_LATER:
            assert (PROJECT_ROOT / path).exists(), f"{shown(document)} names {path}, which is not there."


def check_wardstream(words: list[str]) -> None:
    """Follow the words of a `wardstream` command down its groups and look every option up."""
    here = COMMAND
    options = {option for parameter in here.params for option in parameter.opts}
    for word in words:
        if word in ("…", "...") or word == "--help":
            return
        if word.startswith("--"):
            assert word.split("=")[0] in options, f"there is no option {word}"
        elif hasattr(here, "commands"):
            assert word in here.commands, f"there is no command {word}"
            here = here.commands[word]
            options |= {option for parameter in here.params for option in parameter.opts}


def check_command(line: str) -> None:
    words = shlex.split(line)
    program, rest = words[0], words[1:]
    if program == "make":
        targets = [word for word in rest if "=" not in word]
        assert targets, "make without a target"
        assert set(targets) <= TARGETS, f"the Makefile has no {targets}"
    elif program in ("wardstream", ".venv/bin/wardstream"):
        check_wardstream(rest)
    elif rest[:1] == ["-m"]:
        module = rest[1]
        if "SERVICE" not in module and "<" not in module:
            assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
    elif program in ("python", "python3") and rest:
        assert (PROJECT_ROOT / rest[0]).is_file(), f"there is no {rest[0]}"
    for word in rest:
        if word.startswith(FOLDERS) and program.endswith(("python", "python3")):
            assert (PROJECT_ROOT / word).exists(), f"there is no {word}"


@named(DOCUMENTS)
def test_every_command_exists(document: Path):
    for line in commands(document.read_text("utf-8")):
        try:
            check_command(line)
        except AssertionError as error:
            raise AssertionError(f"{shown(document)} says `{line}`, but {error}") from None


def test_the_two_commands_stand_first():
    lines = list(fenced((PROJECT_ROOT / "README.md").read_text("utf-8"), "sh"))
    assert lines[:2] == ["make run", "make test"]


def test_ci_runs_the_test_command_of_the_readme():
    script = (PROJECT_ROOT / ".ci" / "run").read_text("utf-8")
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script
    assert script.rstrip().endswith("\nmake test")


@cache
def doors() -> frozenset[tuple[str, str]]:
    """Return method and path of every door of every service."""
    return frozenset(
        (method.upper(), path)
        for service in SERVICES
        for path, operations in openapi_of(service)["paths"].items()
        for method in operations
    )


@named(DOCUMENTS)
def test_every_door_that_is_named_exists(document: Path):
    for code in inline_code(document.read_text("utf-8")):
        door = re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE) (/api/\S+)", code)
        if door and "<service>" in door[2]:
            assert all((door[1], door[2].replace("<service>", name)) in doors() for name in ("admission", "billing")), (
                code
            )
        elif door:
            assert (door[1], door[2]) in doors(), f"{shown(document)} names {code}, which is not there."


def test_every_metric_in_the_operators_page_is_registered():
    names = {metric.exposed_name for metric in METRICS.values()}
    text = (PROJECT_ROOT / "docs" / "operations.md").read_text("utf-8")
    told = re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
    assert len(told) >= 5
    assert set(told) <= names


def test_the_journey_in_the_readme_has_23_events_that_exist():
    text = (PROJECT_ROOT / "README.md").read_text("utf-8")
    table = re.search(r"^## One journey$(.*?)^\[tests/flow", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    told = re.findall(r"`([A-Z]\w+)`(?: × (\d))?", table[1])
    assert sum(int(times or 1) for _, times in told) == 23
    assert {name for name, _ in told} <= {event.__name__ for event in EVENTS.values()}


def test_every_rule_that_is_cited_is_explained():
    """A number in a docstring or comment is a promise that somebody can look it up."""
    explained = set(
        re.findall(r"\b[RVSIAKD]\d{1,2}\b|\b(?:DAY|FUP)-\d+\b", (PROJECT_ROOT / "docs" / "rules.md").read_text("utf-8"))
    )
    cited = re.compile(r"(?<![\w\"'/.\-])(?:(?:R|V|S|I|K)\d{1,2}|(?:DAY|FUP)-\d+)(?![\w\"'\-.])")
    fhir = re.compile(r"FHIR R4|\(R[45]\)|before R4|FHIR as R4")
    missing: dict[str, str] = {}
    for folder in ("services", "shared", "infra"):
        for path in [*(PROJECT_ROOT / folder).rglob("*.py"), *(PROJECT_ROOT / folder).rglob("*.sql")]:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if fhir.search(line):
                    continue
                for rule in cited.findall(line):
                    if rule not in explained:
                        missing[rule] = f"{shown(path)}:{number}"
    assert missing == {}, "Say in docs/rules.md what they mean."


@named(DECISIONS)
def test_a_decision_is_one_page_with_its_four_parts(document: Path):
    text = document.read_text("utf-8")
    assert re.match(rf"# {document.name[:4]} \S", text)
    assert re.search(r"^Status: (accepted|replaced by \d{4}), \d{4}-\d{2}$", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Evidence"]
    assert len(text.splitlines()) <= 70, "One page."


def test_the_list_of_decisions_is_complete_and_numbered_without_a_gap():
    listed = re.findall(
        r"^\| \[(\d{4})\]\((\S+)\) \| (.+) \|$", (PROJECT_ROOT / "docs/adr/README.md").read_text("utf-8"), re.MULTILINE
    )
    assert [name for _, name, _ in listed] == [path.name for path in DECISIONS]
    assert [int(number) for number, _, _ in listed] == list(range(1, len(DECISIONS) + 1))
    for (_, _, title), path in zip(listed, DECISIONS, strict=True):
        assert path.read_text("utf-8").splitlines()[0] == f"# {path.name[:4]} {title}"
