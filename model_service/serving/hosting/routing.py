"""Choose the member of a deployment for a request: by weight, by a header's value, or by name."""

from __future__ import annotations

import hashlib
import random
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate

from model_service.errors import InvalidField
from model_service.serving.hosting.member import Member


class Route:
    """Chooses members.

    Args:
        weights: per member; None: the caller must name the member, if there are several.
        sticky_header: requests with the same value of this header go to the same member, and most of them
            keep it when the weights change.
    """

    def __init__(
        self,
        members: Sequence[Member],
        weights: Sequence[int] | None = None,
        sticky_header: str | None = None,
    ) -> None:
        self.members = tuple(members)
        self.sticky_header = sticky_header.lower() if sticky_header else None
        self._by_name = {member.model_version: member for member in reversed(members)}
        self._by_name |= {member.name: member for member in members}
        self._only = members[0] if len(members) == 1 else None
        self._ends = list(accumulate(weights)) if weights is not None else None

    def choose(self, name: str | None, headers: Mapping[str, str]) -> Member:
        """Choose a member. ``headers`` are those of the request, with lower-case names.

        Raises:
            InvalidField: no member has that name, or the request must name one.
        """
        if name is not None:
            member = self._by_name.get(name)
            if member is None:
                raise self._unnamed(f"there is no {name[:100]!r}")
            return member
        if self._only is not None:
            return self._only
        if self._ends is None:
            raise self._unnamed("missing")
        value = headers.get(self.sticky_header) if self.sticky_header else None
        point = _point(value) if value is not None else random.random()  # noqa: S311 - nothing to guess
        return self.members[bisect(self._ends, point * self._ends[-1])]

    def _unnamed(self, message: str) -> InvalidField:
        names = ", ".join(repr(member.name) for member in self.members)
        message = f"{message}; this deployment has {names}"
        return InvalidField(f"model: {message}.", [{"field": "model", "message": message}])


def _point(value: str) -> float:
    """Map a value to a number from 0 to below 1; equal values give equal numbers."""
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=6).digest()) / (1 << 48)
