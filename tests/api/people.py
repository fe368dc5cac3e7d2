"""Those who call a service that asks who they are."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from model_service.config import Settings

ROOT_KEY = "correct horse battery staple"
PASSWORD = "a long enough password"


def secured(settings: Settings, **changes: Any) -> Settings:
    """The same settings where everybody is asked, and nobody is counted unless a test says so."""
    fields = {"enable_auth": True, "api_key": ROOT_KEY, "rate_limits": "off"}
    return settings.model_validate(settings.model_dump() | fields | changes)


class Caller:
    """Somebody with a credential; without one, anybody."""

    def __init__(self, app: Flask, credential: str | None = None) -> None:
        self.credential = credential
        self._http: FlaskClient = app.test_client()
        self._headers = {"Authorization": f"Bearer {credential}"} if credential else {}

    def __call__(self, method: str, path: str, *, status: int | None = None, **given: Any) -> TestResponse:
        """Send a request; with ``status``, the answer must have it."""
        headers = self._headers | given.pop("headers", {})
        answer = self._http.open(path, method=method, headers=headers, **given)
        if status is not None:
            assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        return answer


class People:
    """Makes users and keys of an application as its administrator."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.root = Caller(app, ROOT_KEY)
        self.nobody = Caller(app)

    def user(self, name: str, roles: list[str] | None = None, **fields: Any) -> Caller:
        """A new user, signed in."""
        body = {"name": name, "password": PASSWORD, "roles": roles or []} | fields
        self.root("POST", "/api/v1/users", json=body, status=201)
        return self.signed_in(name)

    def signed_in(self, name: str, password: str = PASSWORD) -> Caller:
        body = {"user": name, "password": password}
        session = self.root("POST", "/api/v1/sessions", json=body, status=201)
        return Caller(self.app, session.json["token"])  # type: ignore[index]

    def key(self, scopes: list[str], **fields: Any) -> tuple[str, Caller]:
        """A new key's id, and whoever has it."""
        body = {"name": "test", "scopes": scopes} | fields
        made: Any = self.root("POST", "/api/v1/keys", json=body, status=201).json
        return made["id"], Caller(self.app, made["key"])
