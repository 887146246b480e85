"""Builders of FHIR bundles; everything a test does not name is what a whole, ordinary record has."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from infra.journeys.catalogue import Rules, read_rules
from infra.journeys.fhir import Reading, read

RULES = read_rules()
ANNA, BERT = "0aaaaaaa-0000-4000-8000-000000000001", "0bbbbbbb-0000-4000-8000-000000000002"
COLONOSCOPY = "73761001"


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def urn(resource_id: str) -> dict[str, str]:
    return {"reference": f"urn:uuid:{resource_id}"}


def a_patient(patient_id: str = ANNA, **more: Any) -> dict[str, Any]:
    whole = {
        "resourceType": "Patient",
        "id": patient_id,
        "identifier": [{"system": "https://example.org/mrn", "value": patient_id}],
        "name": [{"use": "official", "family": "Muster", "given": ["Anna", "Maria"]}],
        "gender": "female",
        "birthDate": "1960-05-04",
    }
    return {**whole, **more}


def an_encounter(
    encounter_id: str = uuid(1),
    code: str = "IMP",
    start: str | None = "2015-03-01T08:00:00+08:00",
    end: str | None = "2015-03-05T10:00:00+08:00",
    patient: str = ANNA,
    **more: Any,
) -> dict[str, Any]:
    period = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
    whole: dict[str, Any] = {
        "resourceType": "Encounter",
        "id": encounter_id,
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code},
        "subject": urn(patient),
        "period": period,
    }
    return {**whole, **more}


def a_claim(
    total: Any,
    *nets: Any,
    encounter: str = uuid(1),
    claim_id: str = uuid(900),
    payer: str = "private",
    kind: str = "institutional",
    **more: Any,
) -> dict[str, Any]:
    """A claim as Synthea writes it: the first item names the stay, further items have a price."""
    items: list[dict[str, Any]] = [{"sequence": 1, "encounter": [urn(encounter)]}]
    items += [
        {
            "sequence": number,
            "productOrService": {"coding": [{"system": "http://snomed.info/sct", "code": f"100{number}"}]},
            "net": {"value": net, "currency": "USD"},
        }
        for number, net in enumerate(nets, 2)
    ]
    whole: dict[str, Any] = {
        "resourceType": "Claim",
        "id": claim_id,
        "status": "active",
        "type": {"coding": [{"code": kind}]},
        "insurance": [{"focal": True, "coverage": {"display": payer}}],
        "item": items,
    }
    if total is not None:
        whole["total"] = {"value": total, "currency": "USD"}
    return {**whole, **more}


def a_procedure(code: str = COLONOSCOPY, encounter: str = uuid(1), **more: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "resourceType": "Procedure",
        "id": f"procedure-{code}-{encounter[-4:]}",
        "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
        "encounter": urn(encounter),
    }
    return {**whole, **more}


def a_bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    entries = [{"fullUrl": f"urn:uuid:{one['id']}" if "id" in one else None, "resource": one} for one in resources]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def as_text(bundle: Any) -> bytes:
    """JSON in which decimals are written digit by digit as they are."""
    marks: dict[str, str] = {}

    def mark(value: Any) -> str:
        assert isinstance(value, Decimal)
        name = f"@@{len(marks)}@@"
        marks[f'"{name}"'] = str(value)
        return name

    text = json.dumps(bundle, default=mark)
    for name, digits in marks.items():
        text = text.replace(name, digits)
    return text.encode()


class Folder:
    """A folder with bundles in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, content: Any) -> Path:
        """Write bytes as they are, anything else as JSON, packed when the name says so."""
        data = content if isinstance(content, bytes) else as_text(content)
        file = self.path / name
        file.write_bytes(gzip.compress(data) if name.endswith(".gz") and not isinstance(content, bytes) else data)
        return file

    def read(self, *resources: dict[str, Any], rules: Rules = RULES) -> Reading:
        """Read one bundle of these resources."""
        return read([self.put("bundle.json", a_bundle(*resources))], rules)
