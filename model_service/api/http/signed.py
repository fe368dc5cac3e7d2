"""Signed URLs: each allows one request to one file, part or package, to anyone who has it, until it expires.

The query contains the signature and the signed values that are not in the path. It is verified before any
other check; ``register_auth`` calls ``signed_actor()`` first. ``by`` is the creator of the URL. The URL
allows what the creator may do now, so it ends when the creator's key is revoked or the role is removed.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from flask import Flask, g, request

from model_service.actor import Actor, Permission, maker
from model_service.api.http.context import context, services
from model_service.api.http.urls import absolute
from model_service.errors import SignatureInvalid, Unauthorized

Fields = list[str | int]

# Each route that accepts a signature: its purpose, and the signed parts of its path.
_SIGNED: dict[str, tuple[str, Callable[[Mapping[str, Any]], Fields]]] = {
    "files.download_file": ("download", lambda args: [args["model_id"], args["path"], _sha256()]),
    "part_uploads.put_part": ("part", lambda args: [args["upload_id"], _number(args["n"], "part's number")]),
    "deployments.download_deployment": ("package", lambda args: [args["deployment_id"], _address()]),
}
# The permissions of the bearer: only for the signed request, and never more than its creator has.
_PERMISSIONS = {
    "download": frozenset({Permission.READ}),
    "part": frozenset({Permission.READ, Permission.WRITE}),
    "package": frozenset({Permission.READ}),
}


def register_signed(app: Flask) -> None:
    """Register the verification. Call this before the authentication is registered."""

    @app.before_request
    def verify() -> None:
        verify_signed_request()


def verify_signed_request() -> bool:
    """Return whether this request has a valid signature; ``signed_actor()`` then returns its actor.

    Raises:
        SignatureInvalid: the route accepts signatures, but this one has expired or is for another request.
    """
    signature = request.args.get("signature")
    route = _SIGNED.get(request.endpoint or "")
    if signature is None or route is None:
        return False
    purpose, fields = route
    expires = _number(request.args.get("expires", ""), "'expires'")
    by = request.args.get("by", "")
    services().signing.verify(purpose, _by(fields(request.view_args or {}), by), expires, signature)
    g.signed_actor = _bearer(by, _PERMISSIONS[purpose])
    return True


def _by(fields: Fields, by: str) -> Fields:
    return [*fields, by, services().principals.api_key_digest(by)]


def _bearer(by: str, permissions: frozenset[Permission]) -> Actor:
    """Raises: SignatureInvalid: the creator of the URL no longer has the permission in any namespace."""
    if not context().settings.enable_auth:
        return Actor("signed-url", everywhere=permissions)
    try:
        creator = services().principals.maker(by)
    except Unauthorized:
        raise SignatureInvalid("The key or the user that created this URL is no longer valid.") from None
    bearer = Actor(
        "signed-url",
        everywhere=creator.everywhere & permissions,
        in_namespaces={name: granted & permissions for name, granted in creator.in_namespaces.items()},
    )
    if not all(bearer.may_somewhere(permission) for permission in permissions):
        raise SignatureInvalid(
            "The key or the user that created this URL no longer has the permission for this request."
        )
    return bearer


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 12:
        raise SignatureInvalid(f"The {what} in the URL is not a number: the URL was changed or cut short.")
    return int(text)


def signed_actor() -> Actor | None:
    """Return the actor of a verified signature; None: the request has none and needs a credential."""
    found: Actor | None = g.get("signed_actor")
    return found


def signed_sha256() -> str | None:
    """Return the checksum of the only file that a signed download may return; None without a signature."""
    return _sha256() if signed_actor() is not None else None


def signed_address() -> int | None:
    """Return the number of a deployment's address that the URL was signed for; None without a signature."""
    return _address() if signed_actor() is not None else None


def _address() -> int:
    return _number(request.args.get("address", ""), "'address'")


def _sha256() -> str:
    return request.args.get("sha256", "")


def download_url(model_id: str, path: str, sha256: str, expires: int) -> str:
    """Return an absolute URL for these bytes at this path; it ends when another file is stored there."""
    by = maker()
    signature = services().signing.sign("download", _by([model_id, path, sha256], by), expires)
    query = urlencode({"sha256": sha256, "expires": expires, "by": by, "signature": signature})
    return absolute(f"/api/v1/models/{model_id}/files/{quote(path)}?{query}")


def package_url(deployment_id: str, address: int, expires: int) -> str:
    """Return an absolute URL for the package of a deployment; it ends when the deployment is deactivated."""
    by = maker()
    signature = services().signing.sign("package", _by([deployment_id, address], by), expires)
    query = urlencode({"address": address, "expires": expires, "by": by, "signature": signature})
    return absolute(f"/api/v1/deployments/{deployment_id}/download?{query}")


def part_url(upload_id: str, n: int, expires: int) -> str:
    """Return an absolute URL for sending this part."""
    by = maker()
    signature = services().signing.sign("part", _by([upload_id, n], by), expires)
    query = urlencode({"expires": expires, "by": by, "signature": signature})
    return absolute(f"/api/v1/uploads/{upload_id}/parts/{n}?{query}")


def moment(expires: int) -> datetime:
    return datetime.fromtimestamp(expires, UTC)
