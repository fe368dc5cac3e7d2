"""Functions that all groups of calls share: the connection, progress bars, waiting and paging."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from model_service.client.deployment_types import Deployment
from model_service.client.errors import WaitTimedOut
from model_service.client.records import Item, Page
from model_service.client.transport.http import Transport
from model_service.client.transport.progress import MakeBar, bars
from model_service.client.types import Dataset, Evaluation, ExportJob

Job = TypeVar("Job", ExportJob, Evaluation, Deployment, Dataset)

_FIRST_POLL_S = 0.1
_LONGEST_POLL_S = 2.0


class Calls:
    def __init__(self, transport: Transport, progress: bool | MakeBar | None) -> None:
        self._transport = transport
        self._bar = bars(progress)

    def _bar_for(self, progress: bool | MakeBar | None) -> MakeBar:
        """Return the progress bar of one call; None selects the client's default."""
        return self._bar if progress is None else bars(progress)

    def _page(self, url: str, key: str, item: type[Item], query: Mapping[str, Any]) -> Page[Item]:
        return Page.from_json(self._transport.json("GET", url, query=query), key, item)


def wait(
    fetch: Callable[[], Job],
    ended: Callable[[Job], bool],
    timeout_s: float,
    deadline: float | None = None,
) -> Job:
    """Poll until ``ended``, first ten times a second, and later every two seconds.

    Args:
        deadline: on the monotonic clock, for a caller that has waited already; by default in ``timeout_s``.

    Raises:
        WaitTimedOut: not ended within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s if deadline is None else deadline
    pause_s = _FIRST_POLL_S
    while True:
        job = fetch()
        if ended(job):
            return job
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise WaitTimedOut(
                job, f"{job.id} is still {_state(job)} after {timeout_s:g} s; it continues to run."
            )
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.3, _LONGEST_POLL_S)


def _state(job: ExportJob | Evaluation | Deployment | Dataset) -> str:
    return "not inspected" if isinstance(job, Dataset) else job.status
