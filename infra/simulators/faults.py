"""How a simulator is to misbehave: a plan of faults by operation, each for a number of times."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

FaultName = Literal[
    "late",
    "silent_before",
    "timeout_after_success",
    "duplicate",
    "contradict",
    "forged",
    "error",
    "drop",
]
ANY = "*"


def _underscored(value: object) -> object:
    return value.replace("-", "_") if isinstance(value, str) else value


class Fault(BaseModel):
    """One way to misbehave.

    late                   does it, answers after `seconds`
    silent_before          never does it, never answers (or hangs up after `seconds`)
    timeout_after_success  does it, never answers
    drop                   does it, closes the connection instead of answering
    duplicate              does it twice, as if the letter had come twice; a notice is sent three times
    contradict             does it, and answers with a refusal; or, by `how`, with another sum (amount) or with parts that
                           are not the sum (parts)
    forged                 does it, and signs the answer (or the notice) with another key
    error                  does nothing and answers HTTP 500
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: Annotated[str, Field(max_length=40, description="Trade or operation; * is any.")]
    fault: Annotated[FaultName, BeforeValidator(_underscored)]
    times: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    seconds: Annotated[float, Field(ge=0, le=3600)] = 0
    how: Literal["refused", "amount", "parts"] = "refused"


@dataclass(slots=True)
class _Planned:
    fault: Fault
    left: int


class Faults:
    """The plan; kept in memory, because a restart is well again."""

    def __init__(self) -> None:
        self._plan: list[_Planned] = []

    def add(self, fault: Fault) -> None:
        """Plan a fault behind those already planned."""
        self._plan.append(_Planned(fault, fault.times))

    def clear(self) -> None:
        """Behave from now on."""
        self._plan.clear()

    def take(self, operation: str) -> Fault | None:
        """Return the fault due for this operation, if any, and use it up once."""
        for planned in self._plan:
            if planned.fault.operation in (operation, ANY):
                planned.left -= 1
                if planned.left == 0:
                    self._plan.remove(planned)
                return planned.fault
        return None
