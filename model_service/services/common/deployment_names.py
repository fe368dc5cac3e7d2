"""Names of deployments: what a URL can hold, derived from the display name that a person gave."""

import re
import unicodedata

# ``api.schemas.common.Name``: what ``/v2/models/{name}`` takes.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")
_MAX_SLUG = 100  # room for a number behind it
_FALLBACK = "deployment"


def is_plain(name: str) -> bool:
    """Whether a deployment can have this name as it is."""
    return _PLAIN.fullmatch(name) is not None


def slug_of(display_name: str) -> str:
    """``Production API`` → ``production-api``; ``deployment`` where no letter or digit of ASCII is left."""
    ascii_only = unicodedata.normalize("NFKD", display_name).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9_.]+", ascii_only.lower())
    return "-".join(words).lstrip("_.-")[:_MAX_SLUG].rstrip("-") or _FALLBACK


def named(sent: str) -> dict[str, str | None]:
    """The ``name`` and ``display_name`` that are stored; a derived name is made unique when it is."""
    return (
        {"name": sent, "display_name": None}
        if is_plain(sent)
        else {"name": slug_of(sent), "display_name": sent}
    )
