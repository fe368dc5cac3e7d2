"""Which pages browsers let call this service: those of CORS_ORIGINS, and none by default.

No cookie and no other credential that a browser adds by itself means anything here, so none is asked for: a
page sends a key or a token of its own, and ``*`` gives nobody more than a script on their own machine has.
"""

from flask import Flask
from flask_cors import CORS

from model_service.config import Settings

# What a page's script may read of an answer, besides the few headers that it always may.
_EXPOSED = [
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "X-File-Checksum",
    "X-Model-Algorithm",
    "X-Model-Version",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-ID",
]
_PREFLIGHT_KEPT_S = 600


def register_cors(app: Flask, settings: Settings) -> None:
    if settings.allowed_origins:
        CORS(
            app,
            origins="*" if "*" in settings.allowed_origins else settings.allowed_origins,
            methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            expose_headers=_EXPOSED,
            supports_credentials=False,
            send_wildcard=True,
            max_age=_PREFLIGHT_KEPT_S,
        )
