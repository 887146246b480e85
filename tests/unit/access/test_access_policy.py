"""The whole matrix and the rules around it. After a wanted change: UPDATE_MATRIX=1 pytest tests/unit/access."""

import os
from pathlib import Path
from uuid import uuid4

import pytest

from shared.access.actor import Actor
from shared.access.policy import MATRIX, MEANINGS, Permission, Reach, Scope, permit, require, scope_of
from shared.access.roles import TITLES, Role
from shared.errors import Forbidden

MATRIX_FILE = Path(__file__).with_name("matrix.txt")
COLUMN = 5
CELLS = {"hospital": "yes", "own ward": "own", "no": "."}


def an_actor(*roles: Role, wards: frozenset[str] = frozenset({"W1"})) -> Actor:
    return Actor(user_id=uuid4(), username="x", roles=frozenset(roles), wards=wards, session_id=uuid4())


def answer(role: Role, permission: Permission) -> str:
    """Ask the policy itself, in the own ward, another ward and no ward; never look at the data."""
    actor = an_actor(role)
    own, other, nowhere = (permit(actor, permission, ward=ward).allowed for ward in ("W1", "W2", None))
    return {(True, True, True): "hospital", (True, False, False): "own ward", (False, False, False): "no"}[
        own, other, nowhere
    ]


def matrix_text() -> str:
    roles = list(Role)
    lines = [
        "Who may do what in Wardstream",
        "=============================",
        "yes = everywhere in the hospital    own = only in the wards of duty of the account    . = never",
        "Somebody with two roles may do what either of them may. What is not in this table is refused.",
        "Ward staff whose duty is in all wards (*) have their 'own' everywhere.",
        "",
    ]
    for number, role in enumerate(roles, start=1):
        english, chinese = TITLES[role]
        held = sum(answer(role, permission) != "no" for permission in Permission)
        lines.append(f"{number:>3}  {role.value:<24} {english}, {chinese} ({held} of {len(Permission)})")
    heads = "".join(f"{number:>{COLUMN}}" for number in range(1, len(roles) + 1))
    lines += ["", f"{'':<23} {'':<43}{heads}"]
    area = ""
    for permission in Permission:
        if (now := permission.value.split(":")[0]) != area:
            area = now
            lines.append("")
        cells = "".join(f"{CELLS[answer(role, permission)]:>{COLUMN}}" for role in roles)
        lines.append(f"{permission.value:<23} {MEANINGS[permission]:<43}{cells}")
    return "\n".join(lines) + "\n"


def test_the_matrix_is_the_one_the_nurse_managers_agreed_to() -> None:
    if os.environ.get("UPDATE_MATRIX"):
        MATRIX_FILE.write_text(matrix_text(), encoding="utf-8")
    assert MATRIX_FILE.read_text(encoding="utf-8") == matrix_text()


def test_every_permission_has_a_meaning_and_somebody_who_holds_it() -> None:
    assert set(MEANINGS) == set(Permission)
    assert {permission for grants in MATRIX.values() for permission in grants} == set(Permission)
    assert set(MATRIX) == set(Role) == set(TITLES)


def test_somebody_without_a_role_may_do_nothing() -> None:
    nobody = an_actor(wards=frozenset({"*"}))
    assert not any(permit(nobody, permission, ward="W1") for permission in Permission)
    assert not any(scope_of(nobody, permission) for permission in Permission)


def test_a_ward_nurse_sees_patients_of_her_ward_only() -> None:
    nurse = an_actor(Role.WARD_NURSE, wards=frozenset({"ICU", "W3"}))
    assert permit(nurse, Permission.PATIENTS_READ, ward="ICU").role is Role.WARD_NURSE
    refused = permit(nurse, Permission.PATIENTS_READ, ward="W1")
    assert not refused
    assert "outside your wards of duty" in refused.reason
    assert scope_of(nurse, Permission.PATIENTS_READ).wards == {"ICU", "W3"}


def test_a_patient_who_is_in_no_ward_yet_is_not_shown_to_a_ward_nurse() -> None:
    refused = permit(an_actor(Role.WARD_NURSE), Permission.PATIENTS_READ)
    assert not refused
    assert "is not known" in refused.reason


def test_a_nurse_on_duty_in_all_wards_is_at_home_everywhere() -> None:
    float_nurse = an_actor(Role.WARD_NURSE, wards=frozenset({"*"}))
    assert permit(float_nurse, Permission.BEDS_CLEAN, ward="W9")
    assert permit(float_nurse, Permission.BEDS_CLEAN)
    assert scope_of(float_nurse, Permission.BEDS_CLEAN) == Scope(everywhere=True, wards=frozenset())


def test_a_scope_is_something_when_it_is_everywhere_or_somewhere() -> None:
    assert scope_of(an_actor(Role.BED_MANAGER, wards=frozenset()), Permission.BEDS_READ)
    assert scope_of(an_actor(Role.WARD_NURSE), Permission.BEDS_READ)
    assert not scope_of(an_actor(Role.BILLING_CLERK), Permission.BEDS_READ)


def test_a_nurse_without_a_ward_of_duty_sees_no_ward() -> None:
    off_duty = an_actor(Role.WARD_NURSE, wards=frozenset())
    assert not permit(off_duty, Permission.BEDS_READ, ward="W1")
    assert not scope_of(off_duty, Permission.BEDS_READ)


def test_a_clerk_of_the_service_centre_cannot_refund() -> None:
    with pytest.raises(Forbidden) as caught:
        require(an_actor(Role.SERVICE_CENTRE_CLERK), Permission.DEPOSITS_REFUND)
    assert caught.value.code == "not_your_role"
    assert caught.value.facts == {"permission": "deposits:refund"}


def test_the_refusal_of_another_ward_says_so_without_naming_it() -> None:
    with pytest.raises(Forbidden) as caught:
        require(an_actor(Role.WARD_NURSE), Permission.PATIENTS_REVEAL_NAME, ward="W-SECRET")
    assert caught.value.code == "not_your_ward"
    assert "SECRET" not in caught.value.detail + str(caught.value.facts)


def test_only_the_importer_may_record_facts_that_happened_earlier() -> None:
    assert [role for role in Role if Permission.FACTS_IMPORT in MATRIX[role]] == [Role.IMPORTER]
    assert set(MATRIX[Role.IMPORTER]) == {Permission.FACTS_IMPORT}


def test_who_manages_accounts_or_machines_sees_no_patient() -> None:
    areas = ("patients:", "encounters:", "accounts:", "daysurgery:", "followup:")
    about_patients = {permission for permission in Permission if permission.value.startswith(areas)}
    for role in (Role.ADMIN, Role.OPS, Role.PRIVACY_OFFICER, Role.IMPORTER):
        assert not about_patients & set(MATRIX[role])


def test_the_bed_board_has_no_way_to_a_full_name() -> None:
    assert Permission.PATIENTS_REVEAL_NAME not in MATRIX[Role.BED_MANAGER]


def test_a_role_that_reaches_the_hospital_wins_over_one_that_reaches_a_ward() -> None:
    both = an_actor(Role.WARD_NURSE, Role.BED_MANAGER)
    assert permit(both, Permission.BEDS_READ, ward="W1").role is Role.BED_MANAGER
    assert permit(both, Permission.BEDS_READ, ward="W2").role is Role.BED_MANAGER
    assert MATRIX[Role.WARD_NURSE][Permission.BEDS_READ] is Reach.OWN_WARDS
