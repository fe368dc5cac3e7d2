"""What the person at the terminal sees of the supervised processes."""

import contextlib
import os
import re
from collections.abc import Sequence

_COLOURS = (36, 33, 32, 35, 34)  # the terminal's cyan, yellow, green, magenta, blue
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Console:
    """Lines that begin with the name of the process they come from, coloured on a terminal.

    Never raises: when nobody reads any more, the processes still have to be stopped in order.
    """

    def __init__(self, fd: int, names: Sequence[str]) -> None:
        self._fd = fd
        width = max(map(len, names))
        coloured = os.isatty(fd) and "NO_COLOR" not in os.environ
        self._prefixes = {name: f"{name:<{width}} | " for name in names}
        if coloured:
            for index, name in enumerate(names):
                colour = _COLOURS[index % len(_COLOURS)]
                self._prefixes[name] = f"\x1b[{colour}m{self._prefixes[name]}\x1b[0m"

    def write(self, name: str, lines: Sequence[str]) -> None:
        """Control characters are dropped: part of a log is what strangers sent, and terminals obey it."""
        prefix = self._prefixes[name]
        text = "".join(f"{prefix}{_CONTROL.sub('', line)}\n" for line in lines)
        with contextlib.suppress(OSError):
            os.write(self._fd, text.encode())
