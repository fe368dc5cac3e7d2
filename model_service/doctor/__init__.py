"""``model-service doctor``: checks a set-up, and says what to do about each problem.

The checks of a subject are a generator of findings, in the module of that name. The subjects run at the same
time, each with its own time limit, so that none hides the findings of another.
"""

from collections.abc import Iterator
from contextlib import suppress

from model_service.config import SettingsError
from model_service.doctor import folders, formats, limits, mongodb, ports, proxy, redis, settings
from model_service.doctor.findings import Finding, Part, Setup, Status
from model_service.doctor.runner import Subject, run
from model_service.up_file import with_running_servers

__all__ = ["Finding", "Part", "Status", "examine"]

# In the order of the output: the slow ones last.
_SUBJECTS = (
    Subject("settings", settings.check, timeout_s=10),
    Subject("folders", folders.check, timeout_s=10),
    Subject("limits", limits.check, timeout_s=10),
    Subject("ports", ports.check, timeout_s=15),
    Subject("mongodb", mongodb.check, timeout_s=30),
    Subject("redis", redis.check, timeout_s=15),
    Subject("formats", formats.check, formats.TIMEOUT_S),
)
_PROXY = Subject("proxy", proxy.check, timeout_s=120)


def examine(url: str | None, parts: frozenset[Part]) -> Iterator[Finding]:
    """Check this machine for ``parts`` of the service, and the public ``url`` if there is one.

    The settings are those of the environment.
    """
    found, wrong = settings.read()
    with suppress(SettingsError):  # then the checks of MongoDB and Redis report that there is no address
        found = with_running_servers(found)
    return run([*_SUBJECTS, *([_PROXY] if url else [])], Setup(found, wrong, url, parts))
