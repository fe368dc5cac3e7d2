"""Errors of the embedded servers and `model-service up`. The message is for the user at the terminal."""


class EmbeddedError(Exception):
    """The start is impossible; the message contains the reason and the next step."""

    exit_code = 1


class MissingBinary(EmbeddedError):
    """No usable ``mongod`` or ``redis-server`` on this machine."""


class DataFolderInUse(EmbeddedError):
    """Another launcher holds this data folder."""


class DataFolderUnusable(EmbeddedError):
    """The data folder cannot be created or written."""


class PortInUse(EmbeddedError):
    """A requested port cannot be listened on."""


class StartFailed(EmbeddedError):
    """A process did not become ready; the message ends with the last lines of its log."""


class Misconfigured(EmbeddedError):
    """A process ended with exit code 2: its settings are wrong, so a restart would not help."""

    exit_code = 2


class GuardLost(EmbeddedError):
    """The guard was killed, and the kernel ended the processes that it had started."""

    def __init__(self) -> None:
        super().__init__("The guard process was killed, so everything was stopped. Start it again.")
