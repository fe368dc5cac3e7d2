"""Checks at the start of a program that temporary files can be written. Standard library only."""

import tempfile


def why_unwritable() -> str | None:
    """Return why there is no temporary folder, and what to do, in one line; None if there is one."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # of every candidate, as on a read-only root file system
        return "TMPDIR: no temporary folder can be written. Mount a writable /tmp, or set TMPDIR to a folder"
    return None
