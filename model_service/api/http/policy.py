"""The policy of a route, declared at its view: the required permission and the rate class of its requests.

    @api.put("/<model_ref:model_id>/files/<path:path>")
    @policy(Permission.WRITE, rate="upload")
    def store_file(...)

An application that has a view without a policy does not start. A policy requires a permission in any
namespace; the services check it for the namespace of the requested object.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, cast

from flask import Flask, Request, current_app

from model_service.actor import Permission

View = TypeVar("View", bound=Callable[..., Any])
# Rate classes: see RATE_LIMIT_... in the settings; "uncounted" has no limit.
RateClass = Literal["default", "read", "poll", "upload", "download", "parts", "login", "uncounted"]
READING = frozenset({"GET", "HEAD"})
# Pages of the API reference; a library provides their views.
_PAGES = frozenset({"openapi", "scalar"})


class Caller(Enum):
    """The callers of a route that needs no permission."""

    ANYONE = "anyone"  # probes, metrics, the documentation, and callers with a token in the body
    IDENTIFIED = "identified"  # the services restrict the result to the caller's own objects


@dataclass(frozen=True)
class Policy:
    """Args:
    everywhere: the permission must be held in all namespaces.
    rate: None: "read" for GET and HEAD, otherwise "default".
    """

    needs: Permission | Caller
    everywhere: bool = False
    rate: RateClass | None = None


def policy(
    needs: Permission | Caller, *, everywhere: bool = False, rate: RateClass | None = None
) -> Callable[[View], View]:
    """Declare the policy of a view. Goes below the decorator that registers the route."""

    def declare(view: View) -> View:
        cast(Any, view).policy = Policy(needs, everywhere, rate)
        return view

    return declare


def check_policies(app: Flask) -> None:
    """Check that every view declares its policy. Raises TypeError with the names of the others."""
    missing = sorted(name for name in app.view_functions if policy_of(app, name) is None)
    if missing:
        raise TypeError(f"Add @policy(...) to {', '.join(missing)}: see {__name__}.")


def policy_of(app: Flask, endpoint: str) -> Policy | None:
    if endpoint.partition(".")[0] in _PAGES:
        return Policy(Caller.ANYONE)
    found: Policy | None = getattr(app.view_functions.get(endpoint), "policy", None)
    return found


def current_policy(request: Request) -> Policy | None:
    """Return the policy of the request's route; None if it has no route, which becomes a 404 or 405."""
    return policy_of(current_app, request.endpoint) if request.endpoint else None


def is_open(request: Request) -> bool:
    """Return whether the request needs no credential. CORS preflights (OPTIONS) are sent without one."""
    found = current_policy(request)
    return request.method == "OPTIONS" or (found is not None and found.needs is Caller.ANYONE)


def reads(request: Request) -> bool:
    """Return whether the request changes nothing. Creating a signed URL for reading counts as reading."""
    found = current_policy(request)
    return request.method in READING or (found is not None and found.needs is Permission.READ)
