"""The types of the settings' values: sizes, limits, addresses and lists, each with its validation.

A validator raises a ValueError whose message lists the allowed values.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from model_service.sentences import pattern
from model_service.states import Tier

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]+(:[0-9]{1,5})?")
_URL = re.compile(r"https?://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?")
_RATE_LIMIT = re.compile(
    r"[1-9][0-9]{0,17} (per|/) ([1-9][0-9]{0,5} )?(second|minute|hour|day|month|year)s?", re.IGNORECASE
)
_PERIOD = re.compile(r"([0-9]+) (?:per|/) (?:([0-9]+) )?([a-z]+?)s?")
_SECONDS = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86_400.0,
    "month": 2_592_000.0,
    "year": 31_536_000.0,
}
_EXPORT_LIMIT = re.compile(r"([a-z]+) ?= ?([1-9][0-9]{0,5}) ?/ ?([1-9][0-9]{0,5})")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# Values that examples and templates have in the place of a secret: nothing but such words and digits, or one
# character repeated.
_PLACEHOLDER = re.compile(
    r"(change|replace|please|me|this|it|your|own|my|the|with|api|key|secret|signing|token|password|placeholder"
    r"|example|default|insecure|value|here|in|production|[\W\d_])+|(.)\2+",
    re.IGNORECASE,
)
# The password in the URLs of the documentation and of deploy/systemd/model-service.env.
_PLACEHOLDER_PASSWORD = re.compile(r"://[^/@]*:PASSWORD@")
_UNITS = {
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)},
}


def parse_size(value: Any) -> int:
    """Return the bytes of ``500MB`` (10^6), ``4GiB`` (2^30) or a plain number of bytes.

    Raises:
        ValueError: not a size.
    """
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("a size like 500MB, 4GiB or a number of bytes")
    number, unit = match.groups()
    try:
        return int(float(number) * _UNITS[(unit or "b").lower()])
    except OverflowError:
        raise ValueError("a smaller size") from None


def split_list(value: str) -> list[str]:
    """Return the items of a comma-separated list."""
    return [item.strip() for item in value.split(",") if item.strip()]


def parse_rate(value: str) -> tuple[int, float]:
    """Return a valid rate limit as a number of requests and a period in seconds."""
    amount, count, unit = _PERIOD.fullmatch(value.strip().lower()).groups()  # type: ignore[union-attr]
    return int(amount), int(count or 1) * _SECONDS[unit]


def _check_origins(value: str) -> str:
    for origin in split_list(value):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError("'*', or a comma-separated list of origins like https://models.example.com")
    return value


def _check_url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError("an address like https://models.example.com or https://example.com/models")
    return value.rstrip("/")


def _check_rate_limit(value: str) -> str:
    if not _RATE_LIMIT.fullmatch(value.strip()):
        raise ValueError("a limit like '100 per hour', '10 per minute' or '1000 per 5 minutes'")
    return value


def _check_byte_limit(value: str) -> str:
    """Validate a limit of bytes per period, and return it with the size as a number of bytes."""
    size, _, period = value.strip().partition(" ")
    try:
        return _check_rate_limit(f"{parse_size(size)} {period}")
    except ValueError:
        raise ValueError("a limit like '500GB per hour' or '1TiB per day'") from None


@dataclass(frozen=True)
class ExportLimit:
    """Export limits of one tier: concurrent, and within 24 hours."""

    concurrent: int
    per_day: int


def parse_export_limits(value: str) -> dict[Tier, ExportLimit]:
    """Parse EXPORT_LIMITS. Raises: ValueError."""
    found = {}
    for part in split_list(value):
        match = _EXPORT_LIMIT.fullmatch(part)
        if match is None or match[1] not in set(Tier):
            raise ValueError(
                f"a comma-separated list of TIER=CONCURRENT/DAILY, like free=1/10, for {', '.join(Tier)}"
            )
        found[Tier(match[1])] = ExportLimit(int(match[2]), int(match[3]))
    return found


def _check_limits(value: str) -> str:
    parse_export_limits(value)
    return value


def _check_modules(value: str) -> str:
    for name in split_list(value):
        if not _MODULE.fullmatch(name):
            raise ValueError("a comma-separated list of Python packages, like mynets,acme.vision")
    return value


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(value: str) -> list[Network]:
    """Parse WEBHOOK_ALLOWED_NETWORKS. Raises: ValueError."""
    try:
        return [ipaddress.ip_network(part) for part in split_list(value)]
    except ValueError:
        raise ValueError("a comma-separated list of networks, like 10.1.0.0/16,192.168.7.9/32") from None


def _check_networks(value: str) -> str:
    parse_networks(value)
    return value


def _check_secret(value: SecretStr) -> SecretStr:
    if _PLACEHOLDER.fullmatch(value.get_secret_value()):
        raise ValueError("it is a placeholder. Generate a secret, for example with 'openssl rand -hex 32'")
    return value


def _check_password(value: SecretStr) -> SecretStr:
    if _PLACEHOLDER_PASSWORD.search(value.get_secret_value()):
        raise ValueError("its password is the placeholder PASSWORD. Replace it with the user's password")
    return value


Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
OptionalSize = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
StoreName = Annotated[
    str, pattern(r"^[A-Za-z0-9_-]{1,38}$", "1 to 38 letters (A-Z, a-z), digits, '_' and '-'")
]
ApiKey = Annotated[SecretStr, Field(min_length=16), AfterValidator(_check_secret)]
SigningSecret = Annotated[SecretStr, Field(min_length=32), AfterValidator(_check_secret)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_password)]
Port = Annotated[int, Field(ge=1, le=65535)]
# A comma-separated list, stored as it was written; ``Settings.allowed_origins`` splits it.
Origins = Annotated[str, AfterValidator(_check_origins)]
# Without a trailing slash.
PublicUrl = Annotated[str, AfterValidator(_check_url)]
RateLimit = Annotated[str, AfterValidator(_check_rate_limit)]
# A number of bytes per period: ``500000000000 per hour``.
ByteLimit = Annotated[str, AfterValidator(_check_byte_limit)]
# Stored as they were written; properties of ``Settings`` split them.
ExportLimits = Annotated[str, AfterValidator(_check_limits)]
Networks = Annotated[str, AfterValidator(_check_networks)]
Modules = Annotated[str, AfterValidator(_check_modules)]
# Case-insensitive: "info" is INFO.
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]
