"""Limits of a user's exports, by tier."""

from math import ceil

from model_service.actor import actor
from model_service.errors import ExportLimitReached
from model_service.storage.common.db import Session, now
from model_service.storage.exports.quotas import DAY, ExportQuotas
from model_service.tiers import Tiers

# Typical duration of a conversion.
_RETRY_S = 60


class ExportLimits:
    def __init__(self, quotas: ExportQuotas, tiers: Tiers) -> None:
        self._quotas = quotas
        self._tiers = tiers

    def check(self, session: Session) -> None:
        """Check the caller's limits. Call it in the transaction that stores an export, before the insert.

        Raises:
            ExportLimitReached: the caller has as many exports as their tier allows.
        """
        who = actor()
        tier = self._tiers.tier_of(who.name, who.tier)
        limits = self._tiers.of(tier)
        if tier is None or (limits.exports_at_a_time is None and limits.exports_per_day is None):
            return
        self._quotas.hold(who.name, session)
        under_way = self._quotas.under_way(who.name, session)
        if limits.exports_at_a_time is not None and under_way >= limits.exports_at_a_time:
            raise ExportLimitReached("concurrent", tier, limits.exports_at_a_time, under_way, _RETRY_S)
        if limits.exports_per_day is None:
            return
        requested, first = self._quotas.of_a_day(who.name, session)
        if requested >= limits.exports_per_day:
            wait_s = ceil((first + DAY - now()).total_seconds()) if first else _RETRY_S
            raise ExportLimitReached("per_day", tier, limits.exports_per_day, requested, max(1, wait_s))
