"""The limits of each tier, from TIERS_FILE or the packaged file, and the tier of a user."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from model_service.actor import ADMINISTRATOR, SERVICE
from model_service.config import Settings, SettingsError
from model_service.sentences import explain
from model_service.states import Tier

PACKAGED = Path(__file__).with_name("tiers.toml")


def _limit(value: Any) -> Any:
    if value == "unlimited":
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError('a whole number from 1, or "unlimited"')
    return value


# The maximum is the largest number that MongoDB can count.
Limit = Annotated[Annotated[int, Field(ge=1, lt=2**53)] | None, BeforeValidator(_limit)]
Price = Annotated[float, Field(ge=0, strict=True)]


class TierLimits(BaseModel):
    """The limits of one tier. None means no limit. Prices are in the operator's currency."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    requests_per_month: Limit = None
    rate_limit_per_minute: Limit = None
    gpu_access: Annotated[bool, Field(strict=True)] = False
    dedicated_instance: Annotated[bool, Field(strict=True)] = False
    price_per_1000_requests: Price = 0.0
    price_per_month: Price = 0.0
    deployments: Limit = None
    exports_at_a_time: Limit = None
    exports_per_day: Limit = None


UNLIMITED = TierLimits(gpu_access=True, dedicated_instance=True)
_FILE = TypeAdapter(dict[Tier, TierLimits])


class Tiers:
    """The tiers, used by the registry and the inference servers."""

    def __init__(self, limits: Mapping[Tier, TierLimits], default: Tier | None = None) -> None:
        self._limits = dict(limits)
        self._default = default

    @classmethod
    def read(cls, settings: Settings) -> "Tiers":
        """Read the tiers file, once at the start.

        Raises:
            SettingsError: one line with the file, the field and the allowed values.
        """
        limits = _read(settings.tiers_file)
        if settings.export_limits:  # applies to all tiers; a tier that it does not name has no limit
            for tier, given in limits.items():
                own = settings.limits_of_exports.get(tier)
                changes = {
                    "exports_at_a_time": own.concurrent if own else None,
                    "exports_per_day": own.per_day if own else None,
                }
                limits[tier] = given.model_copy(update=changes)
        return cls(limits, settings.default_tier)

    def of(self, tier: Tier | None) -> TierLimits:
        """Return the limits of a tier; None: no limits."""
        return UNLIMITED if tier is None else self._limits[tier]

    def tier_of(self, name: str, own: Tier | None) -> Tier | None:
        """Return the user's own tier or, without one, DEFAULT_TIER, which also applies to anonymous callers.

        Returns None (no limits) for the service itself and the administrator.
        """
        return None if name in _UNLIMITED_NAMES else (own or self._default)

    def of_user(self, name: str, user: Mapping[str, Any] | None) -> Tier | None:
        """Return ``tier_of`` a name with this document in ``users``; None: there is no document."""
        own = user.get("tier") if user else None
        return self.tier_of(name, Tier(own) if own else None)


_UNLIMITED_NAMES = frozenset({SERVICE.name, ADMINISTRATOR.name})


def _read(given: Path | None) -> dict[Tier, TierLimits]:
    path = PACKAGED if given is None else given.expanduser()
    try:
        found = _FILE.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise SettingsError(f"TIERS_FILE={path} cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        reason = " ".join(str(exc).split())
        raise SettingsError(f"TIERS_FILE={path} is not TOML: {reason}") from None
    except ValidationError as exc:
        wrong = "; ".join(_explain(error) for error in exc.errors())
        raise SettingsError(f"TIERS_FILE={path} is not valid: {wrong}") from None
    missing = [tier for tier in Tier if tier not in found]
    if missing:
        named = ", ".join(missing)
        raise SettingsError(
            f"TIERS_FILE={path} has no heading for {named}: add one like [{missing[0]}] for each tier"
        )
    return found


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such field; the fields are {', '.join(TierLimits.model_fields)}"
    if error["loc"] and error["loc"][-1] == "[key]":
        return f"[{where}]: there is no such tier; the tiers are {', '.join(Tier)}"
    message = explain(error)
    return f"{where}={error['input']!r}: {message[:1].lower()}{message[1:]}"
