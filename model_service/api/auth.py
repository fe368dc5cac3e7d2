"""Who may call: with ENABLE_AUTH, whoever sends the service's key."""

import hmac

from flask import Flask, request

from model_service.config import Settings
from model_service.errors import Unauthorized

# Probes and scrapers hold no key and learn nothing about a model there.
OPEN_PATHS = frozenset({"/health", "/metrics"})


def register_auth(app: Flask, settings: Settings) -> None:
    if not settings.enable_auth:
        return
    assert settings.api_key is not None  # Settings refuses ENABLE_AUTH without it
    expected = settings.api_key.get_secret_value().encode()

    @app.before_request
    def require_key() -> None:
        if request.path in OPEN_PATHS:
            return
        sent = request.headers.get("X-API-Key") or _bearer()
        if not hmac.compare_digest(sent.encode(), expected):
            raise Unauthorized(
                "This service needs its API key in the header 'X-API-Key' or as a bearer token."
            )


def _bearer() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
