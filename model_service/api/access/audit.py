"""/api/v1/audit"""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.policy import policy
from model_service.api.schemas.access import AuditEntry, AuditLog, AuditQuery

api = APIBlueprint("audit", __name__, url_prefix="/api/v1/audit", abp_tags=[Tag(name="access")])


@api.get("", responses={200: AuditLog})
@policy(Permission.ADMIN, everywhere=True)
def read_audit_log(query: AuditQuery) -> Response:
    """Read the audit log.

    Who changed what and when, newest first, filtered by actor, kind, subject, name and time. `next_cursor`
    of a response continues the list. For administrators.
    """
    fields = query.model_dump(include={"actor", "kind", "subject_id", "name"}, exclude_none=True)
    page = services().audit.search(
        fields, since=query.since, until=query.until, cursor=query.cursor, limit=page_limit(query)
    )
    entries = [AuditEntry.model_validate(entry) for entry in page.entries]
    return answer(AuditLog(entries=entries, next_cursor=page.next_cursor))
