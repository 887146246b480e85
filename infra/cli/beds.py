"""`wardstream beds`: the hospital's layout, from a file into the running bed pool through its public door.

A file is read and judged whole before anything is sent; what is wrong with it is told with file and line, and exit 2.
"""

import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

import typer
from rich.console import Console

from infra.cli.accounts import credential_for, log_in
from infra.cli.answers import EXIT_WRONG, AsJson, BadInput, answer, home_of, words
from infra.local.errors import StackError
from infra.local.stack import Stack

if TYPE_CHECKING:
    from services.beds.layout import LaidOutBed, Layout

HTTP_SECONDS_MAX = 60.0
ROLE = "bed_manager"
BEDS_PER_REQUEST_MAX = 2000
BYTES_PER_REQUEST_MAX = 900_000
"""A little less than a door takes in one body."""
UNAVAILABLE = 503
AGAIN_MAX = 3
AGAIN_SECONDS = 1.0
BAD_INPUT_STATUSES = frozenset({400, 404, 409, 413, 422})

Encoding = Literal["utf-8", "gb18030"]
Files = Annotated[
    list[Path], typer.Argument(metavar="FILE…", show_default=False, help="Layouts, .csv or .yaml; they count as one.")
]
Written = Annotated[
    Encoding, typer.Option("--encoding", help="How the files are written; gb18030: plain CSV of Excel.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    beds = typer.Typer(no_args_is_help=True, help="The hospital's layout: wards, rooms and beds from a file.")
    beds.command("import")(import_layout)
    beds.command("convert")(convert)
    app.add_typer(beds, name="beds")


def import_layout(
    context: typer.Context,
    files: Files,
    *,
    encoding: Written = "utf-8",
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the files are right; needs no running stack.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add the beds of a layout to the pool; beds it knows are left as they are.

    A file with one problem is refused whole (exit 2). Exit 1 when beds the pool knows are told of differently in the file.
    """
    found = _read(files, encoding)
    wards = len(found.wards())
    if check:
        _answer_checked(found, wards, as_json=as_json)
        return
    added, differs = _send(home_of(context), found)
    value = {
        "beds": len(found.beds),
        "wards": wards,
        "added": added,
        "known": len(found.beds) - added,
        "differs": differs,
    }

    def show(console: Console) -> None:
        console.print(
            f"{len(found.beds)} beds in {wards} wards: {added} added, {len(found.beds) - added} known already."
        )

    answer(value, as_json=as_json, show=show)
    if differs:
        words.print(f"{len(differs)} known beds are otherwise in the file; an import changes no bed that is there.")
        raise typer.Exit(EXIT_WRONG)


def convert(files: Files, *, encoding: Written = "utf-8") -> None:
    """Print a layout in the CSV form on stdout, one row for each bed, for a table program."""
    from services.beds import layout

    sys.stdout.buffer.write(layout.write_csv(_read(files, encoding)).encode())


def _read(files: Sequence[Path], encoding: Encoding) -> "Layout":
    """Return what the files say together.

    Raises:
        BadInput: any of them has a problem; all of them, one on each line.
    """
    from services.beds.layout import Layout, RefusedLayout, read

    match read(files, encoding=encoding):
        case RefusedLayout(problems):
            raise BadInput("\n".join(map(str, problems)))
        case Layout() as found:
            return found


def _answer_checked(found: "Layout", wards: int, *, as_json: bool) -> None:
    def show(console: Console) -> None:
        console.print(f"{len(found.beds)} beds in {wards} wards; the file is right. Nothing was sent.")

    answer({"beds": len(found.beds), "wards": wards, "ok": True}, as_json=as_json, show=show)


def _send(home: Path | None, found: "Layout") -> tuple[int, list[str]]:
    """Add the beds, and return how many were new and which known ones the file tells of differently."""
    import httpx2

    base_url = Stack(home).base_url
    issued = log_in(base_url, credential_for(home, role=ROLE))
    headers = {"Authorization": f"Bearer {issued.token}"}
    address = f"{base_url.rstrip('/')}/api/beds/"
    with httpx2.Client(base_url=address, timeout=HTTP_SECONDS_MAX, headers=headers, trust_env=False) as client:
        before = {bed["code"]: bed for bed in _asked(client, "GET")["beds"]}
        added = 0
        for part in _parts(found.beds):
            key = {"Idempotency-Key": uuid4().hex}
            body = {"beds": [_body(bed) for bed in part]}
            added += _asked(client, "POST", beds=part, json=body, headers=key)["added"]
    return added, _differing(found.beds, before)


def _parts(beds: Sequence["LaidOutBed"]) -> Iterator[list["LaidOutBed"]]:
    """Cut a hospital that is too large for one request between two wards; almost every hospital is one part."""
    wards: dict[str, list[LaidOutBed]] = {}
    for bed in beds:
        wards.setdefault(bed.ward, []).append(bed)
    part: list[LaidOutBed] = []
    size = 0
    for ward in wards.values():
        ward_size = sum(len(str(_body(bed)).encode()) for bed in ward)
        if part and (len(part) + len(ward) > BEDS_PER_REQUEST_MAX or size + ward_size > BYTES_PER_REQUEST_MAX):
            yield part
            part, size = [], 0
        part, size = part + ward, size + ward_size
    yield part


def _body(bed: "LaidOutBed") -> dict[str, Any]:
    """Return a bed as the door takes it."""
    from services.beds.layout import Layout

    [row] = Layout((bed,)).rows()
    row["class"] = row.pop("klass")
    return {name: value for name, value in row.items() if value is not None}


def _differing(beds: Sequence["LaidOutBed"], before: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Tell of each known bed whose place or attributes are others in the file; returns the codes."""
    from services.beds.layout import BED_FIELDS

    found = []
    for bed in beds:
        known = before.get(bed.code)
        if known is None:
            continue
        told = _body(bed)
        others = [
            name for name in ("ward", "room", *BED_FIELDS) if name in known and _differs(told.get(name), known[name])
        ]
        for name in others:
            words.print(
                f"{bed.place}: The bed {bed.code} has {name} {known[name]} in the pool, not {told.get(name)}.",
                markup=False,
                soft_wrap=True,
            )
        if others:
            found.append(bed.code)
    return found


def _differs(told: Any, known: Any) -> bool:
    return set(told) != set(known) if isinstance(told, list) and isinstance(known, list) else told != known


def _sent(client: Any, method: str, **what: Any) -> Any:
    import httpx2

    try:
        return client.request(method, "beds", **what)
    except httpx2.HTTPError as error:
        raise StackError(f"The bed pool does not answer ({type(error).__name__}); see wardstream status.") from None


def _asked(client: Any, method: str, *, beds: Sequence["LaidOutBed"] = (), **what: Any) -> Any:
    """Ask the door of the beds; while the pool cannot answer, again with the same key, so that it is done once.

    Raises:
        BadInput: the pool refused what was sent; with the line of the file where it says which bed. StackError: it is not there.
    """
    response = _sent(client, method, **what)
    for _ in range(AGAIN_MAX):
        if response.status_code != UNAVAILABLE:
            break
        time.sleep(AGAIN_SECONDS)
        response = _sent(client, method, **what)
    if response.is_success:
        return response.json()
    try:
        problem = response.json()
        sentence = f"{problem['detail']} ({problem['code']})"
        wrong = [(each["pointer"], each["problem"]) for each in problem.get("errors", ())]
    except (ValueError, KeyError, TypeError):
        raise StackError(f"The bed pool answered {response.status_code}; see wardstream status.") from None
    if response.status_code not in BAD_INPUT_STATUSES:
        raise StackError(sentence)
    raise BadInput("\n".join([sentence, *(f"{_line_of(pointer, beds)}: {why}" for pointer, why in wrong)]))


def _line_of(pointer: str, beds: Sequence["LaidOutBed"]) -> str:
    """Return the file and line of what the door pointed at."""
    found = re.match(r"/beds/([0-9]{1,6})(/.*)?$", pointer)
    if found is None or int(found[1]) >= len(beds):
        return pointer
    return f"{beds[int(found[1])].place}: {(found[2] or '').lstrip('/')}"


__all__ = ["register"]
