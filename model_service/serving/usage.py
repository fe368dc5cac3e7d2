"""Counting requests without a write on their path."""

import threading

from model_service.storage.deployments import Deployments


class Usage:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, float]] = {}

    def count(self, deployment_id: str, milliseconds: float) -> None:
        with self._lock:
            requests, total_ms = self._counts.get(deployment_id, (0, 0.0))
            self._counts[deployment_id] = (requests + 1, total_ms + milliseconds)

    def flush(self, deployments: Deployments) -> None:
        """Write what was counted since the last time; keep it when the database is away."""
        with self._lock:
            counts, self._counts = self._counts, {}
        try:
            deployments.add_usage((key, requests, total_ms) for key, (requests, total_ms) in counts.items())
        except BaseException:
            with self._lock:
                for key, (requests, total_ms) in counts.items():
                    newer, newer_ms = self._counts.get(key, (0, 0.0))
                    self._counts[key] = (requests + newer, total_ms + newer_ms)
            raise
