"""The thread that writes usage, synchronizes quotas, and reports that the process is alive."""

import math
import threading
import time
from collections.abc import Callable

import structlog

from model_service.serving.accounting.keys import KeyUses
from model_service.serving.accounting.quotas import Quotas
from model_service.serving.accounting.usage import Usage
from model_service.storage.common.db import DATABASE_ERRORS
from model_service.storage.deployments.usage import UsageCounts

log = structlog.get_logger(__name__)

INTERVAL_S = 0.5
_REPORT_S = 5.0


class Accounting:
    """``owners`` returns the owners of served deployments, whose quotas are read before the first request.

    ``report`` records every few seconds that this process is alive.
    """

    def __init__(
        self,
        usage: Usage,
        key_uses: KeyUses,
        quotas: Quotas,
        counts: UsageCounts,
        owners: Callable[[], set[str]],
        report: Callable[[], None],
    ) -> None:
        self._usage = usage
        self._key_uses = key_uses
        self._quotas = quotas
        self._counts = counts
        self._owners = owners
        self._report = report
        self._reported = -math.inf
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="accounting", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop, after writing the last counts, if MongoDB is available."""
        self._stop.set()
        self._thread.join()
        self._turn()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._turn()

    def _turn(self) -> None:
        try:
            self._usage.collect()  # first: the metrics do not wait for MongoDB
            self._quotas.sync(self._owners())
            self._usage.flush(self._counts)
            self._key_uses.flush(self._counts)
            if time.monotonic() > self._reported + _REPORT_S:
                self._report()
                self._reported = time.monotonic()
        except DATABASE_ERRORS as exc:
            log.warning("serving.usage_not_written", error=str(exc))
        except Exception:
            log.exception("serving.accounting_failed")
