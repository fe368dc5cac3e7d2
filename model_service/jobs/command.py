"""The commands of ``python -m exporters`` that children run, with the words for them in error messages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        noun: what it does, as the subject of a sentence.
        subject: the untrusted files that it reads.
        smaller: what the user can do when it exceeds a limit.
        other: what the user can do when it crashes; a sentence.
        time_setting: the setting of its time limit; None if the limit is fixed.
    """

    name: str
    noun: str
    subject: str
    smaller: str
    other: str
    time_setting: str | None = "EXPORT_TIMEOUT_S"

    def timed_out(self, limit_s: float) -> str:
        return (
            f"The {self.noun} took longer than {limit_s:g} s and was stopped. {self._less(self.time_setting)}"
        )

    def killed(self) -> str:
        return (
            f"The {self.noun} was killed because it used too much memory (EXPORT_MEMORY) or time. "
            f"{self._less('EXPORT_MEMORY')}"
        )

    def crashed(self, how: str) -> str:
        return (
            f"The {self.noun} crashed on {self.subject} ({how}); the worker's log has its last output. "
            f"{self.other}"
        )

    def _less(self, setting: str | None) -> str:
        return f"{f'Raise {setting}, or {self.smaller}' if setting else self.smaller.capitalize()}."


EXPORT = Command(
    "run", "conversion", "this model", "export a smaller model", "Try another format or converter."
)
EVALUATION = Command(
    "evaluate",
    "evaluation",
    "this model or dataset",
    "evaluate fewer samples",
    "Evaluate an export in another format, or store the dataset in another one.",
)
INSPECTION = Command(
    "inspect-dataset",
    "inspection",
    "this file",
    "upload a smaller file",
    "Check the file, or store its data in another format.",
    time_setting=None,
)
PACKAGE_BUILD = Command(
    "build-package",
    "build of the package",
    "this export's package",
    "deploy a smaller export",
    "Deploy another export.",
)
NETWORK_EXPORT = Command(
    "export-network", "conversion", "this network", "export a smaller network", "Try another format."
)
NETWORK_CHECK = Command(
    "check-network", "check", "this export", "check a smaller export", "Export the network again."
)
