"""Names of deployments: valid in a URL, derived from a display name that a person chose."""

import re
import unicodedata

from model_service.storage.deployments.documents import DeploymentName

# ``api.schemas.common.Name``: the names that ``/v2/models/{name}`` accepts.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")
_MAX_SLUG = 100  # leaves room for a number at the end
_FALLBACK = "deployment"


def is_plain(name: str) -> bool:
    """Return whether the text can be a deployment's name without a change."""
    return _PLAIN.fullmatch(name) is not None


def slug_of(display_name: str) -> str:
    """``Production API`` → ``production-api``; ``deployment`` if no ASCII letter or digit is left."""
    ascii_only = unicodedata.normalize("NFKD", display_name).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9_.]+", ascii_only.lower())
    return "-".join(words).lstrip("_.-")[:_MAX_SLUG].rstrip("-") or _FALLBACK


def named(sent: str) -> DeploymentName:
    """Return ``name`` and ``display_name`` to store. The caller must make a derived name unique."""
    return (
        {"name": sent, "display_name": None}
        if is_plain(sent)
        else {"name": slug_of(sent), "display_name": sent}
    )
