"""`wardstream prices`: the published price list, from a file into running billing through its public door.

A file is read and judged whole before anything is sent; what is wrong with it is told with file and line, and exit 2.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

import typer
from rich.console import Console

from infra.cli.accounts import credential_for, log_in
from infra.cli.answers import AsJson, BadInput, answer, home_of
from infra.local.errors import StackError
from infra.local.stack import Stack

if TYPE_CHECKING:
    from services.billing.prices.catalogue import PriceRow

HTTP_SECONDS_MAX = 60.0
ROLE = "billing_supervisor"
ROWS_PER_VERSION_MAX = 2000
"""So many rows are far below what a door takes in one body."""
UNAVAILABLE = 503
AGAIN_MAX = 3
AGAIN_SECONDS = 1.0
BAD_INPUT_STATUSES = frozenset({400, 409, 413, 422})
COUNTED = ("added", "ended", "withdrawn", "known")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    prices = typer.Typer(no_args_is_help=True, help="The published price list (价格公示), from a file.")
    prices.command("import")(import_prices)
    app.add_typer(prices, name="prices")


def import_prices(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A price list, .csv.")],
    *,
    note: Annotated[str, typer.Option(help="What is said about this publication, such as the notice it follows.")] = "",
    encoding: Annotated[
        Literal["utf-8", "gb18030"], typer.Option(help="How the file is written; gb18030: plain CSV of Excel.")
    ] = "utf-8",
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the file is right; needs no running stack.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish a price list as a new version; prices that held are closed, never changed.

    A file with one problem, or one that would change a price that was public, is refused whole (exit 2).
    """
    rows = _read(file, encoding)
    if check:
        answer(
            {"prices": len(rows), "ok": True},
            as_json=as_json,
            show=lambda console: console.print(f"{len(rows)} prices; the file is right. Nothing was sent."),
        )
        return
    done = _send(home_of(context), rows, note)

    def show(console: Console) -> None:
        told = ", ".join(f"{done[name]} {name}" for name in COUNTED)
        console.print(f"Version {done['version']}: {told}.")

    answer({"prices": len(rows), **done}, as_json=as_json, show=show)


def _read(file: Path, encoding: str) -> "tuple[PriceRow, ...]":
    """Return what the file says.

    Raises:
        BadInput: it has problems; all of them, one on each line.
    """
    from services.billing.prices.catalogue import RefusedPrices, read

    match read(file, encoding=encoding):
        case RefusedPrices(problems):
            raise BadInput("\n".join(map(str, problems)))
        case found:
            return found


def _send(home: Path | None, rows: "Sequence[PriceRow]", note: str) -> dict[str, int]:
    """Publish the rows; a very long list becomes several versions, and none is published before all were found right."""
    import httpx2

    base_url = Stack(home).base_url
    issued = log_in(base_url, credential_for(home, role=ROLE))
    headers = {"Authorization": f"Bearer {issued.token}"}
    address = f"{base_url.rstrip('/')}/api/billing/"
    total: dict[str, int] = {}
    with httpx2.Client(base_url=address, timeout=HTTP_SECONDS_MAX, headers=headers, trust_env=False) as client:
        parts = list(_parts(rows))
        for check in (True, False) if len(parts) > 1 else (False,):
            total = dict.fromkeys(COUNTED, 0)
            for part in parts:
                body = {"prices": [_body(row) for row in part], "note": note, "check": check}
                done = _asked(client, part, json=body, headers={"Idempotency-Key": uuid4().hex})
                total = {name: total[name] + done[name] for name in COUNTED} | {"version": done["version"]}
    return total


def _parts(rows: "Sequence[PriceRow]") -> "Iterator[list[PriceRow]]":
    by_item: dict[str, list[PriceRow]] = {}
    for row in rows:
        by_item.setdefault(row.code, []).append(row)
    part: list[PriceRow] = []
    for same in by_item.values():
        if part and len(part) + len(same) > ROWS_PER_VERSION_MAX:
            yield part
            part = []
        part = [*part, *same]
    yield part


def _body(row: "PriceRow") -> dict[str, Any]:
    """Return a row as the door takes it."""
    return {
        "code": row.code,
        "name_zh": row.name_zh,
        "name_en": row.name_en,
        "pinyin": row.pinyin,
        "class": row.item_class,
        "receipt_class": row.receipt_class,
        "insurance_class": row.insurance_class,
        "unit": row.unit,
        "price_fen": row.price_fen,
        "valid_from": row.valid_from.isoformat(),
        "valid_to": None if row.valid_to is None else row.valid_to.isoformat(),
        "remark": row.remark,
    }


def _asked(client: Any, rows: "Sequence[PriceRow]", **what: Any) -> Mapping[str, int]:
    """Publish at the door; while billing cannot answer, again with the same key, so that it is done once.

    Raises:
        BadInput: billing refused the prices; with the line of the file where it says which. StackError: it is not there.
    """
    response = _sent(client, **what)
    for _ in range(AGAIN_MAX):
        if response.status_code != UNAVAILABLE:
            break
        time.sleep(AGAIN_SECONDS)
        response = _sent(client, **what)
    if response.is_success:
        done: Mapping[str, int] = response.json()
        return done
    try:
        problem = response.json()
        sentence = f"{problem['detail']} ({problem['code']})"
        wrong = [(each["index"], each["problem"]) for each in problem.get("facts", {}).get("conflicts", ())]
    except (ValueError, KeyError, TypeError):
        raise StackError(f"Billing answered {response.status_code}; see wardstream status.") from None
    if response.status_code not in BAD_INPUT_STATUSES:
        raise StackError(sentence)
    lines = [f"{rows[index].place}: {rows[index].code}: {why}" for index, why in wrong]
    raise BadInput("\n".join([sentence, *lines]))


def _sent(client: Any, **what: Any) -> Any:
    import httpx2

    try:
        return client.post("price-versions", **what)
    except httpx2.HTTPError as error:
        raise StackError(f"Billing does not answer ({type(error).__name__}); see wardstream status.") from None


__all__ = ["register"]
