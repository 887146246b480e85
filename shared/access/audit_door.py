"""The door to a service's own audit trail, for the privacy officer; reading it is itself recorded (S3)."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from shared.access import audit
from shared.access.policy import Permission
from shared.db import Transaction
from shared.errors import BadRequest
from shared.web import PROBLEM_RESPONSES, Answered, Caller, Door, next_link, page_of


def audit_router(door: Door) -> APIRouter:
    """Return `GET /audit`: rows of one patient, of one actor, or all, newest first."""
    routes = APIRouter(tags=["audit"], responses=PROBLEM_RESPONSES)

    @routes.get("/audit", summary="Who saw and changed what, newest first")
    async def list_audit(request: Request, patient: UUID | None = None, actor: UUID | None = None) -> Response:
        page = page_of(request)
        if page.after is not None and not (page.after.isdigit() and len(page.after) < 19):
            raise BadRequest("after is no cursor of ours.", code="bad_cursor")

        async def read(tx: Transaction, caller: Caller) -> Answered:
            del caller  # the permission is all that is asked for: an officer sees the whole trail
            before = None if page.after is None else int(page.after)
            rows = await audit.list_audit(
                tx.conn, patient_tok=patient, actor=actor, before_id=before, rows_max=page.limit
            )
            following = str(rows[-1].id) if len(rows) == page.limit else None
            answer = {"rows": rows, "next": next_link(request, following)}
            return Answered(answer, "audit", actor, patient, purpose="review")

        return await door.query(request, Permission.AUDIT_READ, read)

    return routes
