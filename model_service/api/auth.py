"""Who may call: with ENABLE_AUTH, whoever sends the service's key."""

import hmac

from flask import Flask, request

from model_service.config import Settings
from model_service.errors import Unauthorized

# Probes, scrapers and readers of the documentation hold no key, and learn nothing about a model there.
OPEN_PATHS = frozenset({"/", "/health", "/metrics", "/openapi.json"})
OPEN_PREFIX = "/docs/"


def register_auth(app: Flask, settings: Settings) -> None:
    if not settings.enable_auth:
        return
    assert settings.api_key is not None  # Settings refuses ENABLE_AUTH without it
    expected = settings.api_key.get_secret_value().encode()

    @app.before_request
    def require_key() -> None:
        if request.path in OPEN_PATHS or request.path.startswith(OPEN_PREFIX):
            return
        sent = request.headers.get("X-API-Key") or _bearer()
        if not hmac.compare_digest(sent.encode(), expected):
            problem = "The API key is wrong" if sent else "This service needs its API key"
            raise Unauthorized(f"{problem}: send it in the header 'X-API-Key' or as a bearer token.")


def _bearer() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
