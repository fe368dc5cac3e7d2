"""Calls on API keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from model_service.client.access_types import Key
from model_service.client.calls import Calls
from model_service.client.records import Page
from model_service.client.transport.http import segment

KEYS = "/api/v1/keys"


class KeyCalls(Calls):
    def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        namespaces: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        owner: str | None = None,
    ) -> Key:
        """Create an API key. Its text, ``key``, is returned only here: store it.

        Args:
            scopes: of read, write, deploy and admin; a key allows no more than its owner may do.
            namespaces: where the key is valid; by default in all namespaces of its owner.
            expires_at: with its time zone; by default the key does not expire.
            owner: another user, only for administrators.
        """
        data: dict[str, Any] = {"name": name, "scopes": list(scopes)}
        if namespaces is not None:
            data["namespaces"] = list(namespaces)
        if expires_at is not None:
            data["expires_at"] = expires_at.isoformat()
        if owner is not None:
            data["owner"] = owner
        return Key.from_json(self._transport.create(KEYS, data))

    def get_key(self, key_id: str) -> Key:
        return Key.from_json(self._transport.json("GET", _url(key_id)))

    def list_keys(
        self, *, owner: str | None = None, page: int | None = None, limit: int | None = None
    ) -> Page[Key]:
        """Return the caller's keys, newest first; an administrator gets those of all users."""
        return self._page(KEYS, "keys", Key, {"owner": owner, "page": page, "limit": limit})

    def rotate_key(self, key_id: str, *, grace_s: int = 0) -> Key:
        """Replace the key's text, which is returned only here.

        The old one works for ``grace_s`` more seconds.
        """
        return Key.from_json(
            self._transport.json("POST", f"{_url(key_id)}/rotate", data={"grace_s": grace_s})
        )

    def delete_key(self, key_id: str) -> dict[str, Any]:
        """Revoke a key. NotFound may mean that an earlier try, whose response was lost, deleted it."""
        return self._transport.json("DELETE", _url(key_id))


def _url(key_id: str) -> str:
    return f"{KEYS}/{segment(key_id)}"
