"""CORS: pages of the origins in CORS_ORIGINS may call this service from a browser; none by default.

The service does not use cookies or other credentials that a browser adds by itself, so none are allowed: a
page must send its own key or token. So ``*`` permits no more than a script on the user's machine can do.
"""

from flask import Flask
from flask_cors import CORS

from model_service.config import Settings

# Response headers that a page's script may read, in addition to those that it always may.
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
