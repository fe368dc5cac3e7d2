"""Arrays that arrive in batches."""

from typing import Any

import numpy as np
import numpy.typing as npt


class Rows:
    """``whole``: the batches together, joined when it is first read."""

    def __init__(self) -> None:
        self._parts: list[npt.NDArray[Any]] = []

    def add(self, part: npt.NDArray[Any]) -> None:
        self._parts.append(part)

    @property
    def whole(self) -> npt.NDArray[Any]:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def __len__(self) -> int:
        return sum(map(len, self._parts))
