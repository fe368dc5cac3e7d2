"""The summary that the README of a delivered archive begins with."""

from collections.abc import Collection, Mapping
from pathlib import Path

from ..wrappers import summary
from . import archive


def of(package: Path) -> str:
    """Return the Markdown of a package's summary. Raises DeliveryError, as ``archive.opened``."""
    with archive.opened(package) as opened:
        return of_opened(opened)


def of_opened(
    package: archive.Package,
    languages: Collection[str] | None = None,
    folders: Mapping[str, str] = summary.FOLDERS,
) -> str:
    """Return the summary with the wrappers of ``languages`` (None: all of the package) in ``folders``."""
    shown = [name for name in package.wrappers if languages is None or name in languages]
    return summary.markdown(package.metadata, package.fidelity, package.sizes, shown, folders)
