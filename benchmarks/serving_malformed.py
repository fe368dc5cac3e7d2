"""Ten thousand random and malformed requests over sockets of their own, and what they leave behind.

Beside them, bodies that come byte by byte and never end.
"""

import random
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
from common import resident, table
from serving_load import ask
from serving_requests import MalformedRequests
from serving_service import Service

NAME = "mlp"
WARM = 0.1  # of the requests come before the first look at the memory: buffers and arenas are as they stay
SENDERS = 8
SLOW = 64
SLOW_S = 5.0
ANSWER_S = 1.0  # for who waits for more of a body than will come
MIB = 2**20
NONE = "closed, or no answer"
RIGHT = "right"


@dataclass(frozen=True)
class Malformed:
    statuses: Counter[str]
    rss_mib: tuple[float, float, float]  # idle, after the first tenth, after all
    good_meanwhile: Counter[str]  # what came of good requests while bodies came slowly
    good_after: bool
    same_processes: bool


def measure(service: Service, *, count: int) -> Malformed:
    model, deployed = service.exported(NAME), service.deployed(NAME)
    question = deployed.questions(model)["binary"]
    chance = random.Random(0)  # noqa: S311 - data, no secret
    parts = urlsplit(deployed.v2_url)
    assert parts.hostname is not None
    address = (parts.hostname, parts.port or 80)
    write = MalformedRequests(question, deployed.id, deployed.authorization)
    requests = [write.one(chance) for _ in range(count)]
    root = service.process()
    before = _pids(root)

    def outcome() -> str:
        try:
            return RIGHT if model.is_answered_by(ask(question)) else "wrong"
        except (OSError, ValueError) as exc:
            return str(exc).rpartition(question.url)[2].strip()[:120]

    idle = _rss_mib(root)
    statuses: Counter[str] = Counter()
    first = int(count * WARM)
    with ThreadPoolExecutor(SENDERS) as senders:
        statuses.update(senders.map(lambda request: _send(address, request), requests[:first]))
        warm = _rss_mib(root)
        statuses.update(senders.map(lambda request: _send(address, request), requests[first:]))
    slow, meanwhile = _slowly(address, write.head(len(question.body)), question.body, outcome)
    statuses.update(slow)
    good = outcome() == RIGHT
    time.sleep(1.0)
    after = _rss_mib(root)
    return Malformed(statuses, (idle, warm, after), meanwhile, good, before == _pids(root))


def _send(address: tuple[str, int], request: bytes) -> str:
    """The status of the answer."""
    try:
        with socket.create_connection(address, timeout=ANSWER_S) as connection:
            connection.sendall(request)
            return _status(connection)
    except OSError:
        return NONE


def _status(connection: socket.socket) -> str:
    parts = connection.recv(4096).split(b" ", 2)
    return parts[1].decode() if len(parts) == 3 and parts[0].startswith(b"HTTP/") else NONE


def _slowly(
    address: tuple[str, int], head: bytes, body: bytes, outcome: Callable[[], str]
) -> tuple[list[str], Counter[str]]:
    """Bodies of which a byte comes now and then, and never the last; good requests go on meanwhile."""
    connections = [socket.create_connection(address, timeout=ANSWER_S) for _ in range(SLOW)]
    stop = threading.Event()

    def drip() -> None:
        for byte in body:
            for connection in connections:
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    continue
            if stop.wait(0.25):
                return

    for connection in connections:
        connection.sendall(head)
    dripping = threading.Thread(target=drip)
    dripping.start()
    asked: Counter[str] = Counter()
    end = time.monotonic() + SLOW_S
    while time.monotonic() < end:
        asked[outcome()] += 1
        time.sleep(0.02)
    stop.set()
    dripping.join()
    for connection in connections:
        connection.close()
    return [NONE] * SLOW, asked


def _pids(root: psutil.Process) -> set[int]:
    return {each.pid for each in [root, *root.children(recursive=True)]}


def _rss_mib(root: psutil.Process) -> float:
    return statistics.median(resident(root)[0] for _ in range(3)) / MIB


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count:,} of {what}" for what, count in sorted(found.items()))


def report(found: Malformed) -> str:
    idle, warm, after = found.rss_mib
    total = found.statuses.total()
    errors = sum(
        count for status, count in found.statuses.items() if status.startswith("5") and status != "503"
    )
    rows = [
        ("answers", _counted(found.statuses), ""),
        ("500 and the like", errors, "0"),
        ("RSS before / after a tenth / after all", f"{idle:.0f} / {warm:.0f} / {after:.0f} MiB", "no growth"),
        (
            f"right answers to good requests beside {SLOW} slow bodies",
            _counted(found.good_meanwhile),
            f"all {RIGHT}",
        ),
        ("the next good request", "right" if found.good_after else "wrong", "right"),
        ("processes", "the same" if found.same_processes else "others", "the same"),
    ]
    return f"""## Malformed requests

{total:,} requests over connections of their own, each right but for one thing: random JSON, JSON cut
or flipped, fields of other types, shapes and dtypes, wrong lengths of the binary header, NaN and infinities,
claims of a gigabyte, npy headers, broken HTTP; and {SLOW} bodies that come byte by byte. The answer to a
request of which not all came is waited for {ANSWER_S:g} s.

{table(["what", "measured", "promised"], rows)}"""
