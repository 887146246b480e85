"""FHIR R4 bundles read as journeys. Pure: bytes in, journeys and refusals out; only `read` and `find_files` open files.

    file -> Bundle -> Patient, Encounter, Claim, Procedure -> Journey     (8-commands.md, "What `replay` does with a bundle")

What cannot be right is refused with file, resource id and reason, and everything else goes on. Nothing is guessed where
money or time would change: an amount finer than one fen, a time without its zone, a claim that covers two stays.

How a claim becomes charge lines (the sum is always exactly 100 x Claim.total):
    each positive item.net is one line, and what is left of the total is one more, named by the claim's type
    where items exceed the total (a discount, or an item that is a credit), the lines share it by largest remainder (R50)
    a claim without a total is the sum of its items; a negative total is refused; lines of nothing are not posted
    a line is charged when its claim was created, inside the stay; without that time, when the stay began
    claims and stays that were cancelled, only planned or entered in error never happened
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

from infra.journeys.catalogue import Rules
from infra.journeys.fields import (
    DAY_FORM,
    Broken,
    Resource,
    codes_of,
    fen_of,
    instant_of,
    object_of,
    objects_of,
    text_of,
)
from infra.journeys.model import Charge, Identifier, Journey, Operation, Person, Refused, key_part, reference_of
from shared.contracts.envelope import PayerKind, Sex
from shared.money import split_by_weight

BUNDLE_BYTES_MAX = 256 * 1024 * 1024
"""Larger than any patient's record; a gzip file may say that it is small and be endless."""
TEXT_MAX = 120
PHONE_MAX = 40
EMERGENCY_WITHIN = timedelta(hours=24)
UNNAMED = "无名氏"
"""What a patient without a name is called."""

_GZIP_MAGIC = b"\x1f\x8b"
_NEVER_HAPPENED = frozenset({"cancelled", "entered-in-error", "planned"})
_CODE_FORM = re.compile(r"^[A-Za-z0-9_.:+-]{1,64}$")

Identity = tuple[str, str]


class NothingToRead(Exception):
    """A path that was named is not there, or a folder has no bundle in it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything a set of files holds."""

    bundles: int
    patients: int
    journeys: tuple[Journey, ...]
    """In time order: who came first, first."""
    refused: tuple[Refused, ...]


@dataclass(slots=True)
class Contents:
    """What one bundle holds, before it is seen together with the others."""

    journeys: list[Journey] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    emergencies: list[tuple[Identifier, datetime, datetime | None]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


# ---- files -----------------------------------------------------------------------------------------------------------


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Return the bundle files that are named or lie in named folders, each once, in the order of their names.

    Raises:
        NothingToRead: a path is not there, or a folder has no .json or .json.gz file.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.name.endswith((".json", ".json.gz")) and not file.name.startswith(".") and file.is_file()
            )
            if not inside:
                raise NothingToRead(f"There is no .json or .json.gz file in {path}.")
        elif path.exists():
            inside = [path]
        else:
            raise NothingToRead(f"There is no {path}.")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def read(files: Sequence[Path], rules: Rules, on_file: Callable[[Path], None] | None = None) -> Reading:
    """Read all files and return their journeys in time order; a file that cannot be read is refused, the others go on."""
    bundles = 0
    together: list[Contents] = []
    refused: list[Refused] = []
    for path in files:
        try:
            bundle = parse(load(path))
            contents = contents_of(bundle, str(path), rules)
        except Broken as broken:
            refused.append(Refused(str(path), None, str(broken)))
        else:
            bundles += 1
            together.append(contents)
        if on_file is not None:
            on_file(path)
    return assemble(together, bundles=bundles, refused=refused)


def load(path: Path) -> bytes:
    """Return the content of a file, unpacked when it is gzip.

    Raises:
        Broken: it cannot be opened, is cut short or damaged, empty, or too large.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    content = unpacked.read(BUNDLE_BYTES_MAX + 1)
            else:
                content = file.read(BUNDLE_BYTES_MAX + 1)
    except EOFError:
        raise Broken("The gzip file is cut short.") from None
    except (gzip.BadGzipFile, zlib.error):
        raise Broken("The gzip file is damaged.") from None
    except OSError as error:
        raise Broken(f"The file cannot be read: {error.strerror or type(error).__name__}.") from None
    if len(content) > BUNDLE_BYTES_MAX:
        raise Broken(f"The file is larger than {BUNDLE_BYTES_MAX // 2**20} MiB.")
    return content


def parse(content: bytes) -> Resource:
    """Return the Bundle in a JSON text; numbers with a point are decimals, never floats.

    Raises:
        Broken: not JSON, cut short, or not a Bundle.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Broken("The file is not UTF-8 text, so not JSON.") from None
    if not text.strip():
        raise Broken("The file is empty.")
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        what = "The JSON is cut short" if ended else "The file is not JSON"
        raise Broken(f"{what} (line {error.lineno}, column {error.colno}).") from None
    except RecursionError:
        raise Broken("The JSON nests too deep.") from None
    except ValueError:
        raise Broken("The file is not JSON: it has a number no amount can be.") from None
    if not isinstance(value, dict) or value.get("resourceType") != "Bundle":
        raise Broken("The file is not a FHIR Bundle.")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)


# ---- one bundle ------------------------------------------------------------------------------------------------------


class Bundle:
    """The resources of a bundle, found by whatever form a reference has."""

    def __init__(self, content: Resource) -> None:
        self.resources: dict[Identity, Resource] = {}
        self.differing: set[Identity] = set()
        """Resources that are there twice with different content."""
        self._aliases: dict[str, Identity] = {}
        self._identified: dict[tuple[str, str, str], Identity] = {}
        entries = content.get("entry")
        if entries is not None and not isinstance(entries, list):
            raise Broken("Bundle.entry is not a list.")
        for index, entry in enumerate(entries or ()):
            resource = entry.get("resource") if isinstance(entry, dict) else entry
            if isinstance(entry, dict) and resource is None:
                continue
            if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
                raise Broken(f"Bundle.entry[{index}] is not a resource.")
            self._add(resource, entry.get("fullUrl"), index)

    def _add(self, resource: Resource, full_url: object, index: int) -> None:
        kind, given = str(resource["resourceType"]), resource.get("id")
        url = full_url if isinstance(full_url, str) and full_url else None
        name = given if isinstance(given, str) and given else _id_in(url, kind)
        identity = (kind, name or f"#{index}")
        if identity in self.resources:
            if self.resources[identity] != resource:
                self.differing.add(identity)
            return
        self.resources[identity] = resource
        if url is not None:
            self._aliases.setdefault(url, identity)
        if name is not None:
            self._aliases.setdefault(f"{kind}/{name}", identity)
            self._aliases.setdefault(f"urn:uuid:{name}", identity)
        identifiers = resource.get("identifier")
        for one in identifiers if isinstance(identifiers, list) else [identifiers]:
            if isinstance(one, dict):
                self._identified.setdefault((kind, str(one.get("system")), str(one.get("value"))), identity)

    def all(self, kind: str) -> Iterator[tuple[Identity, Resource]]:
        """Return the resources of a kind in the order of the bundle."""
        return ((identity, found) for identity, found in self.resources.items() if identity[0] == kind)

    def resolve(self, reference: object, kind: str) -> Identity | None:
        """Return which resource of the bundle is meant: by URN, by address, relative, or by its identifier."""
        if not isinstance(reference, dict):
            return None
        text = reference.get("reference")
        if isinstance(text, str):
            text = text.partition("/_history/")[0]
            query = re.match(rf"^(?:.*/)?{kind}\?identifier=([^|]*)\|([^&]*)$", text)
            if query is not None:
                return self._identified.get((kind, query[1], query[2]))
            found = self._aliases.get(text) or self._aliases.get("/".join(text.rsplit("/", 2)[-2:]))
            return found if found is not None and found[0] == kind else None
        identifier = reference.get("identifier")
        if isinstance(identifier, dict):
            return self._identified.get((kind, str(identifier.get("system")), str(identifier.get("value"))))
        return None


def _id_in(url: str | None, kind: str) -> str | None:
    """Return the resource id an address ends in."""
    if url is None:
        return None
    if url.startswith("urn:uuid:"):
        return url.removeprefix("urn:uuid:") or None
    found = re.search(rf"(?:^|/){kind}/([A-Za-z0-9.-]{{1,64}})(?:/_history/.*)?$", url)
    return found[1] if found else None


def contents_of(content: Resource, file: str, rules: Rules) -> Contents:
    """Return the journeys of one bundle and what of it is refused.

    Raises:
        Broken: the whole bundle cannot be read.
    """
    bundle = Bundle(content)
    found = Contents()
    people = _people(bundle, found, file)
    bills = _bills(bundle, found, file)
    operations = _operations(bundle, rules)
    for identity, encounter in bundle.all("Encounter"):
        try:
            _add_encounter(found, bundle, identity, encounter, people, bills, operations, file, rules)
        except Broken as broken:
            found.refused.append(Refused(file, _shown_id(identity), str(broken)))
    return found


def _shown_id(identity: Identity) -> str | None:
    return None if identity[1].startswith("#") else identity[1]


def _add_encounter(
    found: Contents,
    bundle: Bundle,
    identity: Identity,
    encounter: Resource,
    people: Mapping[Identity, Person | Broken],
    bills: Mapping[Identity, list[Resource]],
    operations: Mapping[Identity, list[Resource]],
    file: str,
    rules: Rules,
) -> None:
    if encounter.get("status") in _NEVER_HAPPENED:
        return
    patient = bundle.resolve(encounter.get("subject"), "Patient")
    if patient is None:
        raise Broken("The Encounter names no Patient of this bundle.")
    starts_at, ends_at = _period(encounter)
    code = _class_of(encounter)
    person = people[patient]
    if isinstance(person, Broken):
        raise Broken(f"Its Patient cannot be read: {person}")
    if code == "EMER" and starts_at is not None:
        found.emergencies.append((person.identifier, starts_at, ends_at))
    done = operations.get(identity, []) if code == "AMB" else []
    if code != "IMP" and not done:
        return
    if identity in bundle.differing:
        raise Broken("The Encounter is in the bundle twice, and not the same.")
    if _shown_id(identity) is None:
        raise Broken("The Encounter has no id.")
    if starts_at is None:
        raise Broken("The Encounter has no start.")
    charges, claimed_fen, payer_kind = _account(bundle, identity, patient, bills, starts_at, ends_at, rules)
    found.journeys.append(
        Journey(
            kind="inpatient" if code == "IMP" else "day_surgery",
            file=file,
            encounter_id=identity[1],
            reference=reference_of(identity[1], patient[1]),
            person=person,
            starts_at=starts_at,
            ends_at=ends_at,
            emergency=False,
            died=_died_inside(bundle.resources[patient], starts_at, ends_at),
            payer_kind=payer_kind,
            charges=charges,
            claimed_fen=claimed_fen,
            operation=_operation(done, starts_at, ends_at, rules) if code == "AMB" else None,
        )
    )


def _period(encounter: Resource) -> tuple[datetime | None, datetime | None]:
    period = object_of(encounter.get("period"), "Encounter.period")
    starts_at = instant_of(period.get("start"), "Encounter.period.start")
    ends_at = instant_of(period.get("end"), "Encounter.period.end", last=True)
    if starts_at is not None and ends_at is not None and ends_at < starts_at:
        raise Broken("The Encounter ends before it starts.")
    return starts_at, ends_at


def _class_of(encounter: Resource) -> str:
    """Return the class code, from a Coding (R4), a list of concepts (R5) or a plain code."""
    value = encounter.get("class")
    if isinstance(value, str):
        return value
    for one in objects_of(value, "Encounter.class"):
        code = one.get("code") or next(codes_of(one, "Encounter.class"), None)
        if isinstance(code, str):
            return code
    raise Broken("The Encounter has no class.")


# ---- the person ------------------------------------------------------------------------------------------------------


def _people(bundle: Bundle, found: Contents, file: str) -> dict[Identity, Person | Broken]:
    """Return every Patient of the bundle as a person, first seen when their first Encounter began."""
    first_seen: dict[Identity, datetime] = {}
    for _, encounter in bundle.all("Encounter"):
        patient = bundle.resolve(encounter.get("subject"), "Patient")
        try:
            starts_at, _ = _period(encounter)
        except Broken:
            continue
        if patient is not None and starts_at is not None:
            first_seen[patient] = min(starts_at, first_seen.get(patient, starts_at))
    people: dict[Identity, Person | Broken] = {}
    for identity, resource in bundle.all("Patient"):
        try:
            if identity in bundle.differing:
                raise Broken("The Patient is in the bundle twice, and not the same.")
            person = _person(identity, resource, first_seen.get(identity))
            people[identity] = person
            found.people.append(person)
        except Broken as broken:
            people[identity] = broken
            found.refused.append(Refused(file, _shown_id(identity), str(broken)))
    return people


def _person(identity: Identity, patient: Resource, first_seen: datetime | None) -> Person:
    birth_date = _birth_date(patient.get("birthDate"))
    return Person(
        identifier=_identifier(identity, patient),
        name=_name(patient),
        sex=_sex(patient.get("gender")),
        birth_date=birth_date,
        phone=_phone(patient),
        registered_at=first_seen or datetime.combine(birth_date or date(1970, 1, 1), time(), UTC),
    )


def _identifier(identity: Identity, patient: Resource) -> Identifier:
    for one in objects_of(patient.get("identifier"), "Patient.identifier"):
        system, value = text_of(one.get("system")), text_of(one.get("value"))
        if system and value and max(len(system), len(value)) <= TEXT_MAX:
            return Identifier(system, value)
    if _shown_id(identity) is None:
        raise Broken("The Patient has neither an identifier nor an id.")
    return Identifier("fhir", identity[1][:TEXT_MAX])


def _name(patient: Resource) -> str:
    uses = {"official": 0, "usual": 1}
    names = objects_of(patient.get("name"), "Patient.name")
    for one in sorted(names, key=lambda one: uses.get(str(one.get("use")), 2)):
        given = one.get("given")
        parts = [*(given if isinstance(given, list) else [given]), one.get("family")]
        family = one.get("family")
        if isinstance(family, list):  # as FHIR had it before R4
            parts = [*parts[:-1], *family]
        whole = " ".join(part for part in map(text_of, parts) if part) or text_of(one.get("text"))
        if whole:
            return whole[:TEXT_MAX].strip()
    return UNNAMED


def _sex(value: object) -> Sex:
    if value == "male":
        return "male"
    return "female" if value == "female" else "unknown"


def _birth_date(value: object) -> date | None:
    """Return the day of birth; a year or month alone is no day, and none is made up."""
    if isinstance(value, str) and DAY_FORM.match(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise Broken("Patient.birthDate is a day that does not exist.") from None
    return None


def _phone(patient: Resource) -> str | None:
    for one in objects_of(patient.get("telecom"), "Patient.telecom"):
        number = text_of(one.get("value"))
        if one.get("system") == "phone" and number and len(number) <= PHONE_MAX:
            return number
    return None


def _died_inside(patient: Resource, starts_at: datetime, ends_at: datetime | None) -> bool:
    """Say whether the patient died in this stay; of a death known by its day only, any hour of that day counts."""
    value = patient.get("deceasedDateTime")
    earliest = instant_of(value, "Patient.deceasedDateTime")
    latest = instant_of(value, "Patient.deceasedDateTime", last=True)
    if earliest is None or latest is None or ends_at is None:
        return False
    return earliest <= ends_at and starts_at <= latest


# ---- the bill --------------------------------------------------------------------------------------------------------


def _bills(bundle: Bundle, found: Contents, file: str) -> dict[Identity, list[Resource]]:
    """Return the claims of each Encounter, in the order of the bundle; a claim that names nobody's stay is nobody's."""
    bills: dict[Identity, list[Resource]] = {}
    for identity, claim in bundle.all("Claim"):
        if claim.get("status") in _NEVER_HAPPENED:
            continue
        try:
            stays = {
                stay
                for item in objects_of(claim.get("item"), "Claim.item")
                for reference in objects_of(item.get("encounter"), "Claim.item.encounter")
                if (stay := bundle.resolve(reference, "Encounter")) is not None
            }
        except Broken as broken:
            found.refused.append(Refused(file, _shown_id(identity), f"The claim cannot be read: {broken}"))
            continue
        named = {**claim, "_id": identity[1], "_stays": len(stays), "_differs": identity in bundle.differing}
        for stay in stays:
            bills.setdefault(stay, []).append(named)
    return bills


def _account(
    bundle: Bundle,
    identity: Identity,
    patient: Identity,
    bills: Mapping[Identity, list[Resource]],
    starts_at: datetime,
    ends_at: datetime | None,
    rules: Rules,
) -> tuple[tuple[Charge, ...], int, PayerKind]:
    """Return the charge lines of a stay, 100 x the totals of its claims, and who pays."""
    charges: list[Charge] = []
    claimed_fen = 0
    currencies: set[str] = set()
    payer_kind: PayerKind | None = None
    for claim in bills.get(identity, []):
        name = f"Claim {claim['_id']}"
        try:
            if claim["_differs"]:
                raise Broken("it is in the bundle twice, and not the same.")
            if claim["_stays"] > 1:
                raise Broken("it covers several stays, and its total can be charged only once.")
            whose = bundle.resolve(claim.get("patient"), "Patient")
            if whose is not None and whose != patient:
                raise Broken("it is about another patient than its Encounter.")
            created = instant_of(claim.get("created"), "created", last=True)
            charged_at = max(created or starts_at, starts_at)
            lines, total_fen = _lines(claim, currencies)
            payer_kind = payer_kind or _payer(bundle, claim, rules)
        except Broken as broken:
            raise Broken(f"{name}: {broken}") from None
        claimed_fen += total_fen
        charges += [
            Charge(f"{key_part(claim['_id'])}:{place}", item, fen, min(charged_at, ends_at or charged_at))
            for place, item, fen in lines
        ]
    if len(currencies) > 1:
        raise Broken(f"Its claims are in several currencies: {', '.join(sorted(currencies))}.")
    charges.sort(key=lambda charge: charge.charged_at)
    return tuple(charges), claimed_fen, payer_kind or "self_pay"


def _lines(claim: Resource, currencies: set[str]) -> tuple[list[tuple[str, str, int]], int]:
    """Return the lines of one claim as (place, item, fen) and its total in fen; they sum to it exactly."""

    def money_of(money: Resource, name: str) -> int:
        if isinstance(money.get("currency"), str):
            currencies.add(money["currency"])
        return fen_of(money.get("value"), name)

    nets: list[tuple[str, str, int]] = []
    for index, item in enumerate(objects_of(claim.get("item"), "item"), 1):
        net = object_of(item.get("net"), f"item[{index}].net")
        if net:
            concept = item.get("productOrService") or item.get("service")
            code = next(codes_of(object_of(concept, f"item[{index}].productOrService"), "productOrService"), "")
            nets.append((str(index), code if _CODE_FORM.match(code) else "item", money_of(net, f"item[{index}].net")))
    total = object_of(claim.get("total"), "total")
    total_fen = money_of(total, "total") if total else sum(fen for _, _, fen in nets)
    if total_fen < 0:
        raise Broken("its total is less than nothing.")
    lines = [line for line in nets if line[2] > 0]
    rest_fen = total_fen - sum(fen for _, _, fen in lines)
    if rest_fen > 0:
        lines.append(("rest", _rest_item(claim), rest_fen))
    elif rest_fen < 0:
        parts = split_by_weight(total_fen, [fen for _, _, fen in lines])
        lines = [(place, item, fen) for (place, item, _), fen in zip(lines, parts, strict=True) if fen > 0]
    return lines, total_fen


def _rest_item(claim: Resource) -> str:
    kinds = set(codes_of(object_of(claim.get("type"), "type"), "type"))
    return "medication" if "pharmacy" in kinds or claim.get("prescription") is not None else "stay"


def _payer(bundle: Bundle, claim: Resource, rules: Rules) -> PayerKind | None:
    """Return who pays by the name of the coverage, the focal one first; nothing when no name is known."""
    insurances = sorted(objects_of(claim.get("insurance"), "insurance"), key=lambda one: one.get("focal") is not True)
    for insurance in insurances:
        coverage = object_of(insurance.get("coverage"), "insurance.coverage")
        names = [coverage.get("display")]
        meant = bundle.resolve(coverage, "Coverage")
        if meant is not None:
            found = bundle.resources[meant]
            names += [one.get("display") for one in objects_of(found.get("payor"), "Coverage.payor")]
            names.append(object_of(found.get("type"), "Coverage.type").get("text"))
        for name in names:
            kind = rules.payer_of(name) if isinstance(name, str) else None
            if kind is not None:
                return kind
    return None


# ---- theatre ---------------------------------------------------------------------------------------------------------


def _operations(bundle: Bundle, rules: Rules) -> dict[Identity, list[Resource]]:
    """Return, for each Encounter, its procedures that may be day surgery."""
    operations: dict[Identity, list[Resource]] = {}
    for _, procedure in bundle.all("Procedure"):
        if procedure.get("status") in ("not-done", "entered-in-error"):
            continue
        stay = bundle.resolve(procedure.get("encounter") or procedure.get("context"), "Encounter")
        if stay is not None and _day_code(procedure, rules) is not None:
            operations.setdefault(stay, []).append(procedure)
    return operations


def _day_code(procedure: Resource, rules: Rules) -> str | None:
    try:
        codes = list(codes_of(object_of(procedure.get("code"), "Procedure.code"), "Procedure.code", "snomed"))
    except Broken:
        return None  # what cannot be read is in no catalogue
    return next((code for code in codes if code in rules.day_procedures), None)


def _operation(done: Sequence[Resource], starts_at: datetime, ends_at: datetime | None, rules: Rules) -> Operation:
    """Return the first operation of the day, inside the stay; one without a time takes the whole stay."""

    def times(procedure: Resource) -> tuple[datetime, datetime]:
        performed = object_of(procedure.get("performedPeriod"), "Procedure.performedPeriod")
        at = instant_of(procedure.get("performedDateTime"), "Procedure.performedDateTime")
        began_at = instant_of(performed.get("start"), "Procedure.performedPeriod.start") or at or starts_at
        ended_at = instant_of(performed.get("end"), "Procedure.performedPeriod.end", last=True) or ends_at or began_at
        began_at = min(max(began_at, starts_at), ends_at or began_at)
        return began_at, min(max(ended_at, began_at), ends_at or ended_at)

    first = min(done, key=lambda procedure: times(procedure)[0])
    code = _day_code(first, rules)
    assert code is not None
    return Operation(code, *times(first))


# ---- all bundles together --------------------------------------------------------------------------------------------


def assemble(together: Iterable[Contents], *, bundles: int, refused: Sequence[Refused]) -> Reading:
    """Return the journeys of all bundles in time order: each stay once, each person as first told, emergencies marked."""
    people: dict[Identifier, Person] = {}
    emergencies: dict[Identifier, list[tuple[datetime, datetime]]] = {}
    journeys: dict[str, Journey] = {}
    refusals = list(refused)
    contents = list(together)
    for one in contents:
        refusals += one.refused
        for person in one.people:
            known = people.setdefault(person.identifier, person)
            people[person.identifier] = replace(known, registered_at=min(known.registered_at, person.registered_at))
        for identifier, starts_at, ends_at in one.emergencies:
            emergencies.setdefault(identifier, []).append((starts_at, ends_at or starts_at))
    for one in contents:
        for journey in one.journeys:
            whole = replace(
                journey,
                person=people[journey.person.identifier],
                emergency=journey.kind == "inpatient"
                and any(
                    _is_followed(emergency, journey.starts_at)
                    for emergency in emergencies.get(journey.person.identifier, ())
                ),
            )
            first = journeys.setdefault(whole.reference, whole)
            if replace(whole, file=first.file) != first:
                refusals.append(
                    Refused(journey.file, journey.encounter_id, f"Another Encounter has this id, in {first.file}.")
                )
    ordered = sorted(
        journeys.values(),
        key=lambda one: (one.starts_at, one.ends_at or datetime.max.replace(tzinfo=UTC), one.reference),
    )
    return Reading(bundles, len(people), tuple(ordered), tuple(refusals))


def _is_followed(emergency: tuple[datetime, datetime], starts_at: datetime) -> bool:
    """Say whether a stay came out of an emergency visit: begun with or after it, within 24 h of its start or its end."""
    began_at, ended_at = emergency
    after = timedelta()
    return after <= starts_at - began_at <= EMERGENCY_WITHIN or after <= starts_at - ended_at <= EMERGENCY_WITHIN
