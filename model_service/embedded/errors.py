"""What stops an embedded server or `model-service up`. The message is for the person at the terminal."""


class EmbeddedError(Exception):
    """Something here prevents the start; the message says what, and what to do next."""


class MissingBinary(EmbeddedError):
    """No usable ``mongod`` or ``redis-server`` on this machine."""


class DataFolderInUse(EmbeddedError):
    """Another launcher holds this data folder."""


class DataFolderUnusable(EmbeddedError):
    """The data folder cannot be made or written."""


class PortInUse(EmbeddedError):
    """A port that was asked for cannot be listened on."""


class Unreachable(EmbeddedError):
    """MONGODB_URL or REDIS_URL is set, but does not answer."""


class StartFailed(EmbeddedError):
    """A process never became ready; the message ends with the last lines of its log."""


class GuardLost(EmbeddedError):
    """The guard was killed, and the kernel ended what it had started."""

    def __init__(self) -> None:
        super().__init__("The guard process was killed, so everything was stopped. Start it again.")
