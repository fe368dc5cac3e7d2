"""/api/v1/registry: export and import of the whole registry as one archive."""

from datetime import UTC, datetime

from flask import Response
from flask_openapi3 import APIBlueprint, RawModel, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, context, services
from model_service.api.http.policy import policy
from model_service.api.schemas.operations import ImportQuery, ImportResult
from model_service.services.archive.archive import Scope

api = APIBlueprint("registry", __name__, url_prefix="/api/v1/registry", abp_tags=[Tag(name="registry")])

MIMETYPE = "application/x-tar"


class ArchiveBody(RawModel):
    """The body of an import, for the OpenAPI document."""

    mimetypes = [MIMETYPE]  # noqa: RUF012 - as the base declares it


@api.get("/export", responses={200: {"description": "The archive", "content": {MIMETYPE: {}}}})
@policy(Permission.ADMIN, everywhere=True, rate="download")
def export_registry() -> Response:
    """Export the whole registry.

    Streams all models, datasets and training jobs with their files as one tar archive, a consistent snapshot.
    Its last entry has a digest, so an import rejects an incomplete archive. For administrators.
    """
    give_back = context().transfers.take()
    try:
        pieces = services().archive.export(Scope.REGISTRY)
    except BaseException:
        give_back()
        raise
    response = Response(pieces, mimetype=MIMETYPE)
    response.call_on_close(give_back)
    filename = f"registry-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"
    response.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


@api.post("/import", responses={200: ImportResult})
@policy(Permission.ADMIN, everywhere=True, rate="upload")
def import_registry(query: ImportQuery, raw: ArchiveBody) -> Response:
    """Import an exported registry.

    The raw body is the archive. Missing objects are added; existing ones do not change. If a name and version
    belong to another model here, `on_conflict` decides: `skip` or `fail` (409). Nothing becomes visible
    before the whole archive is checked, and a repeated import changes nothing. For administrators.
    """
    give_back = context().transfers.take()
    try:
        imported = services().archive.import_registry(_Body(raw), query.on_conflict)
    finally:
        give_back()
    return answer(ImportResult.model_validate(imported.to_json()))


class _Body:
    """The request's body as a stream. A broken connection looks like the end, which the archive detects."""

    def __init__(self, raw: RawModel) -> None:
        self._stream = raw.environ["wsgi.input"]
        self._left = raw.content_length

    def read(self, size: int, /) -> bytes:
        wanted = size if self._left is None else min(size, self._left)
        try:
            piece = bytes(self._stream.read(wanted)) if wanted else b""
        except OSError:
            return b""
        if self._left is not None:
            self._left -= len(piece)
        return piece
