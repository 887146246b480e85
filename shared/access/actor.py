"""Who is asking, as every service sees it after the token was verified."""

from dataclasses import dataclass
from uuid import UUID

from shared.access.roles import Role

ALL_WARDS = "*"
"""The ward of duty of somebody whose duty is in all wards."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A member of staff (or the importer) with the roles and wards of duty of the moment the token was issued."""

    user_id: UUID
    username: str
    roles: frozenset[Role]
    wards: frozenset[str]
    session_id: UUID
