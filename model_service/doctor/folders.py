"""The folders of this machine: their permissions and the free space on their disks."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from model_service.config import Settings, SettingsError, cannot_create, require_writable
from model_service.doctor.findings import Finding, Part, Setup, error, ok, size, warning
from model_service.storage.blobs.disk_space import free_bytes
from model_service.temporary_folder import why_unwritable

_OF_OTHERS = 0o077


def check(setup: Setup) -> Iterator[Finding]:
    settings = setup.settings
    yield from _user()
    yield from _folder("data-folder", settings.home, "MODEL_SERVICE_HOME", settings)
    if settings.cache_max_bytes and Part.API in setup.parts:
        yield from _folder("cache-folder", settings.cache, "CACHE_DIR", settings)
    if reason := why_unwritable():
        yield error("temporary-folder", reason)
    else:
        folder = Path(tempfile.gettempdir())
        yield space("temporary-folder", f"{folder} is writable; ", free_bytes(folder), settings)


def _user() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield warning(
            "user",
            "these checks run as root, who may read and write everywhere. Run them as the user of the "
            "service: 'runuser -u USER -- model-service doctor'",
        )
    else:
        yield ok("user", f"the checks run as the user {os.geteuid()}")


def _folder(check: str, folder: Path, variable: str, settings: Settings) -> Iterator[Finding]:
    """Check that the folder can be written, or created. It is not created here: this may be another user."""
    try:
        if folder.is_dir():
            _write_in(folder, variable)
            state = f"{folder} is writable; "
        else:
            _creatable(folder, variable)
            state = f"{folder} does not exist yet, and the service can create it; "
    except SettingsError as exc:
        yield error(check, str(exc))
        return
    except OSError as exc:
        yield error(
            check,
            f"{variable}: this user cannot enter {folder.parent}: {exc.strerror}. Let the user "
            f"{os.geteuid()} enter it and the folders above it, or set {variable} to another folder",
        )
        return
    if folder.is_dir() and folder.stat().st_mode & _OF_OTHERS and folder == settings.home:
        yield warning(
            "data-folder-mode", f"other users of this machine may read {folder}. Run 'chmod 700 {folder}'"
        )
    yield space(check, state, free_bytes(folder), settings)


def _write_in(folder: Path, variable: str) -> None:
    """Write a temporary file. Raises: SettingsError: the folder is not writable, or its disk is full."""
    require_writable(folder, variable)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as exc:
        raise SettingsError(
            f"{variable}: a file in {folder} cannot be written: {exc.strerror}. Free space on its disk, "
            f"or set {variable} to another folder"
        ) from None


def _creatable(folder: Path, variable: str) -> None:
    parent = next(each for each in (folder, *folder.parents) if each.exists())
    if not parent.is_dir():
        raise SettingsError(cannot_create(folder, variable, f"{parent} is not a folder"))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise SettingsError(cannot_create(folder, variable, f"this user cannot write to {parent}"))


def space(check: str, begin: str, free: int | None, settings: Settings) -> Finding:
    """Judge the free bytes of a disk. ``begin``: the beginning of the message."""
    if free is None:
        return warning(check, f"{begin}the free space on its disk is unknown")
    left = f"{begin}{size(free)} are free on its disk"
    if free < settings.disk_min_free:
        least = size(settings.disk_min_free)
        return error(check, f"{left}, less than {least} (DISK_MIN_FREE). Free space, or use a larger disk")
    if free < settings.disk_warn_free:
        least = size(settings.disk_warn_free)
        return warning(check, f"{left}, less than {least} (DISK_WARN_FREE). Free space before it is full")
    return ok(check, left)
