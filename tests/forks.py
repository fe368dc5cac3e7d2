"""Run Python programs in forks of a process that has already imported what they need.

To start Python and import the command line takes most of a second of processor time, to import torch takes
several; a fork takes milliseconds. A fork is a process of its own: its arguments, environment, working
directory, standard streams and exit code are those of a program that was started. Tests of the start itself
(signals, encodings, options of Python, imports) start a process with ``subprocess``.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).parents[1]
_MOST_BYTES = 1 << 20
_TIMEOUT_S = 120
_started: dict[tuple[str, ...], "_Template"] = {}


def run(
    arguments: Sequence[str | Path],
    *,
    imported: tuple[str, ...],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    given: bytes = b"",
) -> "subprocess.CompletedProcess[bytes]":
    """As ``subprocess.run([sys.executable, *arguments], capture_output=True)``.

    Args:
        arguments: ``-m MODULE …``, ``SCRIPT …`` or ``-I SCRIPT …``.
        imported: the modules that the process has imported before it is forked.
        given: its standard input.
    """
    template = _started.get(imported)
    if template is None or not template.is_running():
        template = _started[imported] = _Template(imported)
    words = list(map(str, arguments))
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        streams[0].write(given)
        streams[0].seek(0)
        code = template.run(words, dict(os.environ if env is None else env), cwd or Path.cwd(), streams)
        output, errors = (_content(stream) for stream in streams[1:])
    return subprocess.CompletedProcess([sys.executable, *words], code, output, errors)


def run_text(
    arguments: Sequence[str | Path],
    *,
    imported: tuple[str, ...],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    given: str = "",
) -> "subprocess.CompletedProcess[str]":
    """As ``run``, with texts as the standard streams."""
    done = run(arguments, imported=imported, env=env, cwd=cwd, given=given.encode())
    output, errors = (
        io.TextIOWrapper(io.BytesIO(each), "utf-8").read() for each in (done.stdout, done.stderr)
    )
    return subprocess.CompletedProcess(done.args, done.returncode, output, errors)


def _content(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()


class _Template:
    """The process that is forked. It ends with this one, whose end of the connection closes then."""

    def __init__(self, imported: tuple[str, ...]) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.settimeout(_TIMEOUT_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *imported],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

        atexit.register(self.end)

    def end(self) -> None:
        """Wait until it exits; coverage data is written at exit."""
        self._connection.close()
        self._process.wait()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def run(self, words: list[str], env: dict[str, str], cwd: Path, streams: list[IO[bytes]]) -> int:
        """The exit code; as with ``subprocess``, minus the number of a signal that ended it."""
        message = json.dumps({"words": words, "env": env, "cwd": str(cwd)}).encode()
        pid = None
        try:
            socket.send_fds(self._connection, [message], [stream.fileno() for stream in streams])
            pid = int(self._connection.recv(_MOST_BYTES))
            return int(self._connection.recv(_MOST_BYTES))
        except BaseException:  # a timeout, or the test's end: no later request may get this one's code
            self._process.kill()
            self._process.wait()
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.kill(pid, signal.SIGKILL)
            raise


def _serve(connection: socket.socket) -> None:
    """Fork for each request; return in the fork, to run its program, or at the end of the connection."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
        if not message:
            sys.exit()
        pid = os.fork()
        if pid == 0:
            connection.close()
            return _become(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict, descriptors: list[int]) -> None:  # type: ignore[type-arg]
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    first, *rest = request["words"]
    if first == "-m":
        module, *rest = rest
        sys.argv = [module, *rest]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    sys.path.pop(0)  # this project
    if first == "-I":
        first, *rest = rest
    else:
        sys.path.insert(0, str(Path(first).resolve().parent))
    sys.argv = [first, *rest]
    runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    for imported in sys.argv[2:]:
        importlib.import_module(imported)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy these pages
    _serve(socket.socket(fileno=int(sys.argv[1])))
