"""What each endpoint needs, once: asked before its view is called.

An endpoint that is not named here needs READ to read and WRITE for anything else, so that a new one is never
open by mistake. Whether the caller has the permission in the namespace of the very thing is for the services
to ask.
"""

from dataclasses import dataclass

from flask import Request

from model_service.actor import Permission

# Probes, scrapers and readers of the documentation hold no key, and learn nothing about a model there.
# Whoever signs in has nothing yet.
# Callbacks of an export bring the token of their job, which the service checks.
_OPEN_BLUEPRINTS = frozenset({"documents", "export_callbacks", "openapi", "operations", "scalar"})
_OPEN = frozenset({"sessions.open_session"})

# Of oneself: the services look at whose it is.
_ANYBODY = frozenset(
    {
        "users.whoami",
        "users.change_own_password",
        "sessions.end_session",
        "namespaces.list_namespaces",
        "keys.create_key",
        "keys.list_keys",
        "keys.get_key",
        "keys.rotate_key",
        "keys.delete_key",
    }
)
_ADMIN_BLUEPRINTS = frozenset({"users", "audit", "registry"})
_DEPLOY_BLUEPRINTS = frozenset({"deployments", "deployment_actions", "deployment_keys"})
# Of the whole registry: not for those who may read a part of it.
_EVERYWHERE_BLUEPRINTS = frozenset({"diagnostics"})
# A signed URL shows what its maker may read, whatever method made it.
_READ = frozenset({"files.presign_download", "files.presign_file"})
# URLs to send its parts to come with it.
_WRITE = frozenset({"part_uploads.get_upload"})
_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Need:
    permission: Permission
    everywhere: bool = False


def is_open(request: Request) -> bool:
    """Whether nobody is asked who they are. Browsers ask what they may (OPTIONS) without a credential."""
    return request.method == "OPTIONS" or is_open_endpoint(request.endpoint or "")


def is_open_endpoint(endpoint: str) -> bool:
    """Whether the endpoint needs no credential."""
    return endpoint.partition(".")[0] in _OPEN_BLUEPRINTS or endpoint in _OPEN


def reads(request: Request) -> bool:
    """Whether the request changes nothing."""
    return request.method in _READING or request.endpoint in _READ


def needed(request: Request) -> Need | None:
    """What the caller must be allowed, in some namespace at least; None: nothing but to be known."""
    if (
        request.endpoint is None or request.endpoint in _ANYBODY
    ):  # no route: a 404 or 405 for whoever is known
        return None
    if request.blueprint in _ADMIN_BLUEPRINTS:
        return Need(Permission.ADMIN, everywhere=True)
    if reads(request) and request.endpoint not in _WRITE:
        return Need(Permission.READ, request.blueprint in _EVERYWHERE_BLUEPRINTS)
    return Need(Permission.DEPLOY if request.blueprint in _DEPLOY_BLUEPRINTS else Permission.WRITE)
