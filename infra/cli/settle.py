"""`wardstream settle ID`: one stay settled as at the bedside, on the embedded stack, with an outside that misbehaves on request."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from rich.console import Console

from infra.cli.accounts import credential_for
from infra.cli.answers import EXIT_WRONG, AsJson, BadInput, answer, home_of, table
from infra.cli.journey import find_encounter
from infra.journeys.bedside import Bedside, NotSettled, PayBy, Simulators, psn_no_of
from infra.journeys.client import Client, Declined, Login, Unreachable
from infra.local.errors import StackError
from infra.local.stack import Stack
from shared.money import yuan_text

PayerFault = Literal[
    "late", "silent-before", "timeout-after-success", "duplicate", "contradict", "forged", "error", "drop"
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("settle")(settle)


def settle(
    context: typer.Context,
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="An encounter id, or the identifier another system gave the stay.")
    ],
    *,
    payer_fault: Annotated[
        PayerFault | None,
        typer.Option(help="What the simulated insurance fund does when it is asked to settle (2304)."),
    ] = None,
    self_pay: Annotated[bool, typer.Option("--self-pay", help="The family pays all; no fund is asked.")] = False,
    method: Annotated[PayBy, typer.Option(help="How what is due is paid.")] = "cash",
    as_json: AsJson = False,
) -> None:
    """Settle one stay: quote, yes, insurance fund, payment, receipt; shows each state with its time.

    A stay that is settled already is reopened first (结算召回), with everything that hangs on it. Without --self-pay it is
    billed with the fund as insured.
    """
    if payer_fault is not None and self_pay:
        raise BadInput("--payer-fault needs a fund that is asked; leave --self-pay out.")
    stack = Stack(home_of(context))
    encounter_id = find_encounter(stack.base_url, home_of(context), identifier)
    found = asyncio.run(_settle(stack, encounter_id, payer_fault, self_pay=self_pay, method=method))

    def show(console: Console) -> None:
        _show(console, found)

    answer(found, as_json=as_json, show=show)
    if not found["ok"]:
        raise typer.Exit(EXIT_WRONG)


async def _settle(
    stack: Stack, encounter_id: UUID, payer_fault: PayerFault | None, *, self_pay: bool, method: PayBy
) -> dict[str, Any]:
    credential = credential_for(stack.home.root, username="replay")
    client = Client(stack.base_url, Login(credential.username, credential.password))
    simulators = Simulators.of(stack)
    bedside = Bedside(client, encounter_id, simulators)
    try:
        reopened = await bedside.reopen_when_settled("settled_again")
        if payer_fault is not None:
            plan = {"operation": "2304", "fault": payer_fault, "times": 1, "seconds": 8}
            await asyncio.to_thread(simulators.operate, "insurance", "POST", "/faults", plan)
        problem = None
        try:
            await bedside.settle(psn_no=None if self_pay else psn_no_of(encounter_id), by=method)
            await bedside.receipt()
        except NotSettled as error:
            problem = str(error)
        bill = await bedside.look()
        truth = await asyncio.to_thread(simulators.operate, "insurance", "GET", "/truth")
        return _report(encounter_id, bill, truth, reopened=reopened, problem=problem, payer_fault=payer_fault)
    except Declined as refused:
        raise BadInput(refused.detail) from None
    except (Unreachable, NotSettled) as error:
        raise StackError(str(error)) from None
    finally:
        if payer_fault is not None:
            await asyncio.to_thread(simulators.operate, "insurance", "DELETE", "/faults")
        await client.close()


def _report(
    encounter_id: UUID,
    bill: Mapping[str, Any],
    truth: Mapping[str, Any],
    *,
    reopened: bool,
    problem: str | None,
    payer_fault: str | None,
) -> dict[str, Any]:
    """Put our word beside the fund's own: settled once here, and once there when it was asked."""
    stays = {one["mdtrt_id"] for one in truth["stays"] if one["ipt_no"] == str(encounter_id)}
    at_fund = [one for one in truth["settlements"] if one["mdtrt_id"] in stays and one["taken_back_at"] is None]
    at_fund_fen = sum(one["fund_fen"] + one["account_fen"] for one in at_fund)
    wanted = 1 if bill["insured"] else 0
    payer_fen = bill["fund_fen"] + bill["account_fen"]
    agree = len(at_fund) == wanted and at_fund_fen == payer_fen
    return {
        "ok": problem is None and bill["state"] == "settled" and agree,
        "problem": problem,
        "encounter_id": str(encounter_id),
        "bill_id": bill["bill_id"],
        "state": bill["state"],
        "reopened_first": reopened,
        "payer_fault": payer_fault,
        "states": [{"state": one["state"], "at": one["at"], "why": one["why"]} for one in bill["steps"]],
        "charged_fen": bill["charged_fen"],
        "fund_fen": bill["fund_fen"],
        "account_fen": bill["account_fen"],
        "patient_fen": bill["patient_fen"],
        "settlement": bill["settlement"],
        "receipt": bill["receipt"],
        "fund": {"settlements_in_force": len(at_fund), "payer_fen": at_fund_fen},
    }


def _show(console: Console, found: Mapping[str, Any]) -> None:
    rows = table("state", "at", "why")
    for step in found["states"]:
        rows.add_row(step["state"], step["at"], step["why"] or "")
    console.print(rows)
    for name, title in (
        ("charged_fen", "charged"),
        ("fund_fen", "fund"),
        ("account_fen", "own insurance account"),
        ("patient_fen", "patient"),
    ):
        console.print(f"{title:>22}  {yuan_text(found[name]):>16}")
    if found["receipt"]:
        console.print(f"{'receipt':>22}  {found['receipt']['number']}")
    console.print(f"The fund holds {found['fund']['settlements_in_force']} settlement(s) of this stay in force.")
    if found["problem"]:
        console.print(f"Not settled: {found['problem']}", markup=False)
