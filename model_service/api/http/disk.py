"""Reject requests that store data (507) while MongoDB's disk is nearly full; reads and deletions work."""

from flask import Flask, request

from model_service.api.http.context import services

_STORING = frozenset({"POST", "PUT", "PATCH"})
# POST requests that store next to nothing, or that free disk space.
GOES_ON = frozenset(
    {
        "batch.change_models",  # checks the disk itself, because it may delete
        "deployment_actions.deactivate_deployment",
        "exports.cancel",
        "exports.cancel_export",
        "files.presign_download",
        "files.presign_file",
        "sessions.open_session",
    }
)


def register_disk(app: Flask) -> None:
    """Register the check. Call this after all checks that reject requests for other reasons."""

    @app.before_request
    def refuse_where_the_disk_is_full() -> None:
        if request.method in _STORING and request.url_rule is not None and request.endpoint not in GOES_ON:
            services().disk.require_room(request.content_length or 0)
