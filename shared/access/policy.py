"""The one policy: which role may do what, and where (S1). Pure, denied by default.

Every door of every service asks `permit` (or `require`) here and nowhere else. The matrix is data; the whole of it is
written out for people in `tests/unit/access/matrix.txt`, and a test fails when the two differ.

Not here: the doctor's team and the patient's consent. A doctor's grants reach the whole hospital, every use is audited.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.access.actor import ALL_WARDS, Actor
from shared.access.roles import Role
from shared.errors import Forbidden


class Permission(StrEnum):
    """Something a door lets somebody do, named `<area>:<verb>`."""

    PATIENTS_REGISTER = "patients:register"
    PATIENTS_READ = "patients:read"
    PATIENTS_REVEAL_NAME = "patients:reveal_name"
    ENCOUNTERS_REGISTER = "encounters:register"
    ENCOUNTERS_ADMIT = "encounters:admit"
    ENCOUNTERS_DISCHARGE = "encounters:discharge"
    ENCOUNTERS_CANCEL = "encounters:cancel"
    ENCOUNTERS_READ = "encounters:read"
    BEDS_READ = "beds:read"
    BEDS_MANAGE = "beds:manage"
    BEDS_ASSIGN = "beds:assign"
    BEDS_CLEAN = "beds:clean"
    ACCOUNTS_READ = "accounts:read"
    DEPOSITS_TAKE = "deposits:take"
    DEPOSITS_REFUND = "deposits:refund"
    REFUNDS_APPROVE = "refunds:approve"
    CHARGES_POST = "charges:post"
    CHARGES_REVERSE = "charges:reverse"
    SETTLEMENTS_SETTLE = "settlements:settle"
    SETTLEMENTS_REOPEN = "settlements:reopen"
    DEBTS_WRITE_OFF = "debts:write_off"
    RECONCILIATION_MANAGE = "reconciliation:manage"
    ARREARS_OVERRIDE = "arrears:override"
    CREDIT_APPROVE = "credit:approve"
    PRICES_MANAGE = "prices:manage"
    DAYSURGERY_REFER = "daysurgery:refer"
    DAYSURGERY_BOOK = "daysurgery:book"
    DAYSURGERY_PROGRESS = "daysurgery:progress"
    DAYSURGERY_READ = "daysurgery:read"
    FOLLOWUP_READ = "followup:read"
    FOLLOWUP_PERFORM = "followup:perform"
    FOLLOWUP_PLAN = "followup:plan"
    OPS_READ = "ops:read"
    OPS_PARKED = "ops:parked"
    AUDIT_READ = "audit:read"
    ACCOUNTS_STAFF_MANAGE = "accounts_staff:manage"
    FACTS_IMPORT = "facts:import"


MEANINGS: Mapping[Permission, str] = {
    Permission.PATIENTS_REGISTER: "register a patient and correct the record",
    Permission.PATIENTS_READ: "see a patient, name masked",
    Permission.PATIENTS_REVEAL_NAME: "reveal one full name (recorded)",
    Permission.ENCOUNTERS_REGISTER: "register a pre-admission, request a bed",
    Permission.ENCOUNTERS_ADMIT: "admit into the assigned bed",
    Permission.ENCOUNTERS_DISCHARGE: "discharge, and take a discharge back",
    Permission.ENCOUNTERS_CANCEL: "cancel a pre-admission or an admission",
    Permission.ENCOUNTERS_READ: "see stays",
    Permission.BEDS_READ: "see beds and waiting lists",
    Permission.BEDS_MANAGE: "import, block and unblock beds",
    Permission.BEDS_ASSIGN: "hold, assign and release a bed",
    Permission.BEDS_CLEAN: "clean beds; take patients, leaves, guests",
    Permission.ACCOUNTS_READ: "see an account and its lines",
    Permission.DEPOSITS_TAKE: "take a deposit",
    Permission.DEPOSITS_REFUND: "refund a deposit",
    Permission.REFUNDS_APPROVE: "agree to a colleague's large refund",
    Permission.CHARGES_POST: "post a charge",
    Permission.CHARGES_REVERSE: "reverse a charge",
    Permission.SETTLEMENTS_SETTLE: "quote and settle",
    Permission.SETTLEMENTS_REOPEN: "reopen a settlement, settle a late charge",
    Permission.DEBTS_WRITE_OFF: "write off what nobody will pay",
    Permission.RECONCILIATION_MANAGE: "match the day, explain differences",
    Permission.ARREARS_OVERRIDE: "let a charge through in spite of arrears",
    Permission.CREDIT_APPROVE: "approve what a stay may owe",
    Permission.PRICES_MANAGE: "publish prices",
    Permission.DAYSURGERY_REFER: "refer to day surgery",
    Permission.DAYSURGERY_BOOK: "book, move and cancel a slot",
    Permission.DAYSURGERY_PROGRESS: "record arrival, theatre, recovery, leaving",
    Permission.DAYSURGERY_READ: "see day-surgery cases",
    Permission.FOLLOWUP_READ: "see follow-up plans and tasks",
    Permission.FOLLOWUP_PERFORM: "accept and perform a follow-up task",
    Permission.FOLLOWUP_PLAN: "make and change a follow-up plan",
    Permission.OPS_READ: "see health, lags and traces",
    Permission.OPS_PARKED: "retry or discard an event set aside",
    Permission.AUDIT_READ: "read who looked at and changed what",
    Permission.ACCOUNTS_STAFF_MANAGE: "open, change and disable staff accounts",
    Permission.FACTS_IMPORT: "record facts that happened earlier",
}
"""Each permission as a nurse manager would say it; the matrix file prints these."""


class Reach(StrEnum):
    """How far a grant reaches."""

    HOSPITAL = "hospital"
    OWN_WARDS = "own_wards"


def _hospital(*permissions: Permission) -> dict[Permission, Reach]:
    return dict.fromkeys(permissions, Reach.HOSPITAL)


def _own_wards(*permissions: Permission) -> dict[Permission, Reach]:
    return dict.fromkeys(permissions, Reach.OWN_WARDS)


_P = Permission

MATRIX: Mapping[Role, Mapping[Permission, Reach]] = {
    Role.WARD_NURSE: _own_wards(
        _P.PATIENTS_READ,
        _P.PATIENTS_REVEAL_NAME,
        _P.ENCOUNTERS_READ,
        _P.ENCOUNTERS_ADMIT,
        _P.ENCOUNTERS_DISCHARGE,
        _P.BEDS_READ,
        _P.BEDS_CLEAN,
        _P.ACCOUNTS_READ,
        _P.CHARGES_POST,
        _P.DAYSURGERY_READ,
        _P.DAYSURGERY_PROGRESS,
        _P.FOLLOWUP_READ,
    ),
    Role.BED_MANAGER: _hospital(
        _P.PATIENTS_READ,
        _P.ENCOUNTERS_READ,
        _P.BEDS_READ,
        _P.BEDS_MANAGE,
        _P.BEDS_ASSIGN,
        _P.BEDS_CLEAN,
        _P.DAYSURGERY_READ,
    ),
    Role.SERVICE_CENTRE_CLERK: _hospital(
        _P.PATIENTS_REGISTER,
        _P.PATIENTS_READ,
        _P.PATIENTS_REVEAL_NAME,
        _P.ENCOUNTERS_REGISTER,
        _P.ENCOUNTERS_ADMIT,
        _P.ENCOUNTERS_CANCEL,
        _P.ENCOUNTERS_READ,
        _P.BEDS_READ,
        _P.BEDS_ASSIGN,
        _P.ACCOUNTS_READ,
        _P.DEPOSITS_TAKE,
        _P.DAYSURGERY_READ,
    ),
    Role.BILLING_CLERK: _hospital(
        _P.PATIENTS_READ,
        _P.PATIENTS_REVEAL_NAME,
        _P.ENCOUNTERS_READ,
        _P.ACCOUNTS_READ,
        _P.DEPOSITS_TAKE,
        _P.DEPOSITS_REFUND,
        _P.REFUNDS_APPROVE,
        _P.CHARGES_POST,
        _P.CHARGES_REVERSE,
        _P.SETTLEMENTS_SETTLE,
        _P.SETTLEMENTS_REOPEN,
        _P.RECONCILIATION_MANAGE,
        _P.ARREARS_OVERRIDE,
    ),
    Role.BILLING_SUPERVISOR: _hospital(
        _P.PATIENTS_READ,
        _P.ENCOUNTERS_READ,
        _P.ACCOUNTS_READ,
        _P.DEPOSITS_REFUND,
        _P.REFUNDS_APPROVE,
        _P.CHARGES_REVERSE,
        _P.SETTLEMENTS_REOPEN,
        _P.DEBTS_WRITE_OFF,
        _P.RECONCILIATION_MANAGE,
        _P.CREDIT_APPROVE,
        _P.PRICES_MANAGE,
    ),
    Role.DOCTOR: _hospital(
        _P.PATIENTS_READ,
        _P.PATIENTS_REVEAL_NAME,
        _P.ENCOUNTERS_REGISTER,
        _P.ENCOUNTERS_DISCHARGE,
        _P.ENCOUNTERS_CANCEL,
        _P.ENCOUNTERS_READ,
        _P.BEDS_READ,
        _P.DAYSURGERY_REFER,
        _P.DAYSURGERY_PROGRESS,
        _P.DAYSURGERY_READ,
        _P.FOLLOWUP_READ,
        _P.FOLLOWUP_PLAN,
    ),
    Role.DAY_SURGERY_COORDINATOR: _hospital(
        _P.PATIENTS_READ,
        _P.PATIENTS_REVEAL_NAME,
        _P.ENCOUNTERS_READ,
        _P.BEDS_READ,
        _P.ACCOUNTS_READ,
        _P.DAYSURGERY_REFER,
        _P.DAYSURGERY_BOOK,
        _P.DAYSURGERY_PROGRESS,
        _P.DAYSURGERY_READ,
    ),
    Role.FOLLOW_UP_NURSE: _hospital(
        _P.PATIENTS_READ,
        _P.PATIENTS_REVEAL_NAME,
        _P.ENCOUNTERS_READ,
        _P.DAYSURGERY_READ,
        _P.FOLLOWUP_READ,
        _P.FOLLOWUP_PERFORM,
        _P.FOLLOWUP_PLAN,
    ),
    # A primary-care worker's "ward" is the community centre the task was given to.
    Role.PRIMARY_CARE_WORKER: _own_wards(_P.PATIENTS_READ, _P.FOLLOWUP_READ, _P.FOLLOWUP_PERFORM),
    Role.OPS: _hospital(_P.OPS_READ, _P.OPS_PARKED),
    Role.PRIVACY_OFFICER: _hospital(_P.AUDIT_READ),
    Role.ADMIN: _hospital(_P.ACCOUNTS_STAFF_MANAGE, _P.OPS_READ, _P.PRICES_MANAGE),
    Role.IMPORTER: _hospital(_P.FACTS_IMPORT),
}
"""What each role may do, and how far. What is not written here is refused."""


def _holders_of(permission: Permission) -> tuple[tuple[Role, Reach], ...]:
    """Return the roles that hold a permission, those that reach the whole hospital first."""
    found = [(role, MATRIX[role][permission]) for role in Role if permission in MATRIX[role]]
    return tuple(sorted(found, key=lambda holder: holder[1] is not Reach.HOSPITAL))


_HOLDERS: Mapping[Permission, tuple[tuple[Role, Reach], ...]] = {p: _holders_of(p) for p in Permission}


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of the policy: a yes names the role that gave it (the audit row keeps it), a no says why."""

    allowed: bool
    role: Role | None
    reason: str

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an actor holds a permission, for lists: everywhere, in some wards, or (empty) nowhere."""

    everywhere: bool
    wards: frozenset[str]

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.wards)


NO_ROLE = "None of your roles may do this."
OTHER_WARD = "This is outside your wards of duty."
WARD_UNKNOWN = "This may be done only within your wards of duty, and the ward is not known here."


def permit(actor: Actor, permission: Permission, *, ward: str | None = None) -> Decision:
    """Decide whether the actor may do this to something in `ward`; what no role grants is refused (S1).

    `ward` is where the thing is now: the patient's ward, the bed's ward, the community centre of a task. For a thing
    that is nowhere yet (`None`) a grant limited to wards of duty says no, unless the wards of duty are all wards.
    """
    refusal = NO_ROLE
    for role, reach in _HOLDERS[permission]:
        if role not in actor.roles:
            continue
        if reach is Reach.HOSPITAL or ALL_WARDS in actor.wards or (ward is not None and ward in actor.wards):
            return Decision(allowed=True, role=role, reason="")
        refusal = WARD_UNKNOWN if ward is None else OTHER_WARD
    return Decision(allowed=False, role=None, reason=refusal)


def scope_of(actor: Actor, permission: Permission) -> Scope:
    """Return the wards in which the actor holds a permission, so that a list shows those and no others (S1)."""
    held = [reach for role, reach in _HOLDERS[permission] if role in actor.roles]
    if Reach.HOSPITAL in held or (held and ALL_WARDS in actor.wards):
        return Scope(everywhere=True, wards=frozenset())
    return Scope(everywhere=False, wards=actor.wards if held else frozenset())


def require(actor: Actor, permission: Permission, *, ward: str | None = None) -> Role:
    """Return the role that allows this, or refuse with a sentence that names the permission and no patient (S1).

    Raises:
        Forbidden: no role of the actor allows it here.
    """
    decision = permit(actor, permission, ward=ward)
    if decision.role is None:
        code = "not_your_ward" if decision.reason in (OTHER_WARD, WARD_UNKNOWN) else "not_your_role"
        raise Forbidden(decision.reason, code=code, permission=permission.value)
    return decision.role
