"""How many exports somebody may ask for, by the user's tier: EXPORT_LIMITS says what a tier may."""

from math import ceil

from model_service.actor import Actor, actor
from model_service.config import ExportLimit
from model_service.errors import ExportLimitReached
from model_service.states import Tier
from model_service.storage.db import Session, now
from model_service.storage.export_quotas import DAY, ExportQuotas

# A conversion takes about that long.
_RETRY_S = 60


class ExportLimits:
    def __init__(
        self, quotas: ExportQuotas, limits: dict[Tier, ExportLimit], default_tier: Tier | None
    ) -> None:
        self._quotas = quotas
        self._limits = limits
        self._default_tier = default_tier

    def tier_of(self, who: Actor) -> Tier | None:
        """The user's own, else DEFAULT_TIER; None: nobody limits them. The administrator has none."""
        return None if who.unlimited else (who.tier or self._default_tier)

    def check(self, session: Session) -> None:
        """Call it in the transaction that stores an export of whoever acts, before it is stored.

        Raises:
            ExportLimitReached: they have as many as their tier allows.
        """
        who = actor()
        tier = self.tier_of(who)
        limit = self._limits.get(tier) if tier else None
        if tier is None or limit is None:
            return
        self._quotas.hold(who.name, session)
        under_way = self._quotas.under_way(who.name, session)
        if under_way >= limit.concurrent:
            raise ExportLimitReached("concurrent", tier, limit.concurrent, under_way, _RETRY_S)
        asked, first = self._quotas.of_a_day(who.name, session)
        if asked >= limit.per_day:
            wait_s = ceil((first + DAY - now()).total_seconds()) if first else _RETRY_S
            raise ExportLimitReached("per_day", tier, limit.per_day, asked, max(1, wait_s))
