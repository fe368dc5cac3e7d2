"""Prometheus metrics by deployment, summed over the processes of the inference server.

prometheus_client cannot remove a series that several processes count. So these counts are in JSON files in
the folder of ``metrics_folder``, each replaced as a whole when it changed:

    deployments_<pid>.json    the counts of one process; a deleted deployment is dropped
    deployments_dead.json     the sums of ended processes
    pool.json                 written by the supervisor

No extra work per request: the numbers come from ``accounting.usage``.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import accumulate
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from model_service.latency import LATENCY_BOUNDS_MS
from model_service.metrics import is_dead, locked
from model_service.metrics_folder import VARIABLE, write_state
from model_service.serving.accounting.usage import Row, Rows
from model_service.serving.hosting.deployment_labels import OTHER, Labels
from model_service.serving.hosting.host import Host
from model_service.serving.hosting.loaded_deployment import LoadedDeployment
from model_service.serving.pool.supervisor import STATE

_OUTCOMES = ("success", "client_error", "server_error")
_BOUNDS = [*(str(round(bound / 1000, 6)) for bound in LATENCY_BOUNDS_MS), "+Inf"]  # in seconds
_DEAD = "deployments_dead.json"
_BY_MEMBER = ("requests", "inference_s", "batches")

# The counts of a label, as in the files. ``requests``, by member: one number for each of _OUTCOMES.
# ``batches``, by member: runs and rows. ``histogram``: requests for each of _BOUNDS.
Counts = dict[str, Any]


class DeploymentMetrics(Collector):
    """``count`` is called by one thread, ``collect`` by any."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._labels = Labels({}, None)  # replaced as a whole
        self._counts: dict[str, Counts] = {}  # by label; replaced as a whole, like its values
        # What a model or a shadow had counted at the last call
        self._seen: WeakKeyDictionary[object, Counts] = WeakKeyDictionary()
        self._written: object = None

    def count(self, rows: Rows) -> None:
        """Add the requests in ``rows``, and what models and shadows counted since the last call."""
        self._follow()
        labels, counts = self._labels, dict(self._counts)
        for (deployment_id, member, _), row in rows.items():
            label = labels.by_id.get(deployment_id)
            if label is not None:
                counts[label] = _sum(counts[label], _of_row(OTHER if label == OTHER else member, row))
        for deployment_id, label in labels.by_id.items():
            for new in self._new_runs(label, labels.hosted[deployment_id]):
                counts[label] = _sum(counts[label], new)
        self._counts = counts
        state = self._state()
        if state != self._written and write_state(f"deployments_{os.getpid()}.json", state):
            self._written = state

    def _follow(self) -> None:
        """Give new deployments a label and counts of 0, and drop deployments and members that are gone.

        No count moves from one series to another: a deployment with a new label begins at 0.
        """
        names, hosted = self._host.names, {each.id: each for each in self._host.hosted()}
        before = self._labels
        if (
            names == before.names
            and hosted.keys() == before.hosted.keys()
            and all(before.hosted[key] is each for key, each in hosted.items())
        ):
            return
        labels = Labels(hosted, names)
        kept = {*labels.by_id.values(), *(self._counts.keys() & {OTHER})}
        counts = {label: self._counts.get(label, {}) for label in kept}
        for key, label in labels.by_id.items():
            counts[label] = _sum(counts[label], _zeros(label, hosted[key]))
        self._labels, self._counts = labels, _alive(counts, labels)

    def _new_runs(self, label: str, hosted: LoadedDeployment) -> Iterator[Counts]:
        for model in hosted.models:
            runs = [model.runs.count, model.runs.rows]
            before = self._seen.get(model, {"runs": [0, 0]})["runs"]
            if runs != before:
                self._seen[model] = {"runs": runs}
                new = [now - then for now, then in zip(runs, before, strict=True)]
                yield {"batches": {OTHER if label == OTHER else model.name: new}}
        if hosted.shadow is not None:
            outcomes = dict(hosted.shadow.counts)
            before = self._seen.get(hosted.shadow, {})
            if outcomes != before:
                self._seen[hosted.shadow] = outcomes
                yield {"shadow": {name: count - before.get(name, 0) for name, count in outcomes.items()}}

    def _state(self) -> dict[str, Any]:
        return {"counts": self._counts, "loaded": len(self._host), "failing": len(self._host.failing)}

    def collect(self) -> Iterator[Metric]:
        folder = os.environ.get(VARIABLE)
        if folder is None:
            yield from _families(self._counts)
            yield from _gauges([self._state()])
            return
        self._fold_dead(folder)
        with locked(folder, fcntl.LOCK_SH):
            states = {path.name: _read(path) for path in Path(folder).glob("deployments_*.json")}
            pool = Path(folder, STATE)
            supervisor = _read(pool) if pool.exists() else None
        dead = _alive(states.pop(_DEAD, {"counts": {}})["counts"], self._labels)
        yield from _families(reduce(_sum, (state["counts"] for state in states.values()), dead))
        yield from _gauges([*states.values()])
        if supervisor is not None:
            yield from _of_pool(supervisor)

    def _fold_dead(self, folder: str) -> None:
        """Move the counts of ended processes to one file, so that they stay and the files stay few."""
        dead = [path for path in Path(folder).glob("deployments_*.json") if is_dead(path)]
        if not dead:
            return
        with locked(folder, fcntl.LOCK_EX):
            # Another process may have moved them meanwhile.
            found = [_read(path)["counts"] for path in (*dead, Path(folder, _DEAD)) if path.exists()]
            total: dict[str, Counts] = reduce(_sum, found, {})
            if write_state(_DEAD, {"counts": _alive(total, self._labels)}):
                for path in dead:
                    path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def _alive(counts: Mapping[str, Counts], labels: Labels) -> dict[str, Counts]:
    """Return the counts without deployments that are not served, and without former members."""
    return {
        label: {
            what: {name: value[name] for name in value if labels.keeps_member(label, name)}
            if what in _BY_MEMBER
            else value
            for what, value in found.items()
        }
        for label, found in counts.items()
        if labels.keeps(label)
    }


def _sum(one: Any, other: Any) -> Any:
    """Return the sum of two numbers, of two lists item by item, or of two dicts key by key."""
    if isinstance(one, dict):
        both = {key: _sum(one[key], other[key]) for key in one.keys() & other.keys()}
        return {**one, **other, **both}
    if isinstance(one, list):
        return [_sum(mine, theirs) for mine, theirs in zip(one, other, strict=True)]
    return one + other


def _of_row(member: str, row: Row) -> Counts:
    successes = row.requests - row.client_errors - row.errors
    return {
        "requests": {member: [successes, row.client_errors, row.errors]},
        "inference_s": {member: row.inference_s},
        "seconds": row.seconds,
        "histogram": list(row.histogram),
    }


def _zeros(label: str, hosted: LoadedDeployment) -> Counts:
    """Return counts of 0: Prometheus does not see the first count of a new series as an increase."""
    members = [OTHER] if label == OTHER else [member.name for member in hosted.route.members]
    models = [OTHER] if label == OTHER else [model.name for model in hosted.models]
    return {
        "requests": {member: [0] * len(_OUTCOMES) for member in members},
        "inference_s": dict.fromkeys(members, 0.0),
        "batches": {model: [0, 0] for model in models},
        "shadow": {} if hosted.shadow is None else dict.fromkeys(hosted.shadow.counts, 0),
        "seconds": 0.0,
        "histogram": [0] * len(_BOUNDS),
    }


def _families(counts: Mapping[str, Counts]) -> Iterator[Metric]:
    name, member = "model_service_deployment", ["deployment", "member"]
    requests = CounterMetricFamily(
        f"{name}_requests", "Answered requests", labels=["deployment", "member", "outcome"]
    )
    inference = CounterMetricFamily(f"{name}_inference_seconds", "Time that the model ran", labels=member)
    runs = CounterMetricFamily(f"{name}_batches", "Runs of a model", labels=member)
    batch_rows = CounterMetricFamily(f"{name}_batch_rows", "Rows in all runs of a model", labels=member)
    shadows = CounterMetricFamily(
        f"{name}_shadow_requests",
        "Requests that were copied to the shadow",
        labels=["deployment", "outcome"],
    )
    durations = HistogramMetricFamily(
        f"{name}_request_duration_seconds",
        "Time from a request's whole body until its response",
        labels=["deployment"],
    )
    for label, found in sorted(counts.items()):
        for each, by_outcome in sorted(found["requests"].items()):
            for outcome, value in zip(_OUTCOMES, by_outcome, strict=True):
                requests.add_metric([label, each, outcome], value)
        for each, seconds in sorted(found["inference_s"].items()):
            inference.add_metric([label, each], seconds)
        for each, (run_count, row_count) in sorted(found["batches"].items()):
            runs.add_metric([label, each], run_count)
            batch_rows.add_metric([label, each], row_count)
        for outcome, value in sorted(found["shadow"].items()):
            shadows.add_metric([label, outcome], value)
        buckets = list(zip(_BOUNDS, map(float, accumulate(found["histogram"])), strict=True))
        durations.add_metric([label], buckets, found["seconds"])
    yield from (requests, inference, runs, batch_rows, shadows, durations)


def _gauges(states: list[dict[str, Any]]) -> Iterator[Metric]:
    yield GaugeMetricFamily("model_service_serving_processes", "Serving processes", value=len(states))
    for key, meaning in (
        ("loaded", "Deployments that every serving process has loaded"),
        ("failing", "Deployments that a serving process could not load; each load is retried"),
    ):
        values = [state[key] for state in states]
        value = min(values, default=0) if key == "loaded" else max(values, default=0)
        yield GaugeMetricFamily(f"model_service_{key}_deployments", meaning, value=value)


def _of_pool(state: Mapping[str, float]) -> Iterator[Metric]:
    deaths = CounterMetricFamily(
        "model_service_serving_process_deaths", "Serving processes that ended and were replaced"
    )
    deaths.add_metric([], state["deaths"])
    yield deaths
    yield GaugeMetricFamily(
        "model_service_serving_start_timestamp_seconds",
        "Time when the inference server started",
        value=state["started_at"],
    )
