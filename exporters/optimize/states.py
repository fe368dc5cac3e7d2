"""The stored state of an export's trainings, from which a later run of the same request continues."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKPOINT = "checkpoint.pt"


class States:
    """The states of trainings in their order, in one file.

    A training that ended keeps its weights, because the next change of the network begins with them.

    Args:
        folder: of the file; a state that is there is continued if its request is the same. None: the state is
            not stored.
        request: everything that determines the result, as JSON.
    """

    def __init__(self, folder: Path | None, request: Mapping[str, Any]) -> None:
        self._path = None if folder is None else folder / CHECKPOINT
        text = json.dumps(request, sort_keys=True)
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self._trainings: list[dict[str, Any]] = []
        self._number = -1
        self.threads: int | None = None  # with which the stored state was computed
        self._load()

    def _load(self) -> None:
        import torch

        if self._path is None or not self._path.is_file():
            return
        stored = torch.load(self._path, weights_only=True)
        if stored["request"] == self._fingerprint:
            self._trainings, self.threads = stored["trainings"], int(stored["threads"])

    def begin(self, network: Any, optimizer: Any) -> list[float]:
        """Begin the next training, with its stored state if there is one. Returns its losses."""
        self._number += 1
        if self._number >= len(self._trainings):
            return []
        stored = self._trainings[self._number]
        network.load_state_dict(stored["network"])
        if "optimizer" in stored:
            optimizer.load_state_dict(stored["optimizer"])
        return list(stored["losses"])

    def store(self, network: Any, optimizer: Any, losses: Sequence[float], threads: int) -> None:
        """Store the state of the present training after an epoch."""
        import torch

        if self._path is None:
            return
        del self._trainings[self._number :]
        for ended in self._trainings:
            ended.pop("optimizer", None)
        state = {
            "network": copy.deepcopy(network.state_dict()),  # later changes are made in place
            "optimizer": optimizer.state_dict(),
            "losses": list(losses),
        }
        self._trainings.append(state)
        stored = {"request": self._fingerprint, "trainings": self._trainings, "threads": threads}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_suffix(".new")
        with written.open("wb") as file:
            torch.save(stored, file)
            file.flush()
            os.fsync(file.fileno())
        written.rename(self._path)
