"""The names, phones and identifiers that must be nowhere but in their tables. Kept in memory for one look, never written or told."""

from infra.audit.check import Look
from infra.audit.needles import Haystack, Needle

_NAMES = "SELECT patient_tok, name, phone FROM admission.patient_identity"
_IDENTIFIERS = "SELECT patient_tok, value FROM admission.patient_identifier"


async def haystack_of(at: Look) -> Haystack | None:
    """Return what to search for, made once per look; nothing without admission."""
    if "admission" not in at.services:
        return None
    if "haystack" not in at.kept:
        needles = [
            Needle(text.strip(), f"the {what} of patient {row['patient_tok']}")
            for row in await at.rows(_NAMES)
            for what, text in (("name", row["name"]), ("phone", row["phone"] or ""))
            if text.strip()
        ]
        needles += [
            Needle(row["value"].strip(), f"an identifier of patient {row['patient_tok']}")
            for row in await at.rows(_IDENTIFIERS)
        ]
        at.kept["haystack"] = Haystack(needles)
    found: Haystack = at.kept["haystack"]
    return found
