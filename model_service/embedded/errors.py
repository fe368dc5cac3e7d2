"""What stops an embedded server or `model-service up`. The message is for the person at the terminal."""


class EmbeddedError(Exception):
    """Something here prevents the start; the message says what, and what to do next."""

    exit_code = 1


class MissingBinary(EmbeddedError):
    """No usable ``mongod`` or ``redis-server`` on this machine."""


class DataFolderInUse(EmbeddedError):
    """Another launcher holds this data folder."""


class DataFolderUnusable(EmbeddedError):
    """The data folder cannot be made or written."""


class PortInUse(EmbeddedError):
    """A port that was asked for cannot be listened on."""


class StartFailed(EmbeddedError):
    """A process never became ready; the message ends with the last lines of its log."""


class Misconfigured(EmbeddedError):
    """A process ended with exit code 2: its settings are wrong, and it would end again."""

    exit_code = 2


class GuardLost(EmbeddedError):
    """The guard was killed, and the kernel ended what it had started."""

    def __init__(self) -> None:
        super().__init__("The guard process was killed, so everything was stopped. Start it again.")
