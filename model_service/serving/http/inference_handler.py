"""One inference request: authorize, admit, decode, choose the member, run, encode, and count.

Protocols differ in decoding bodies and encoding responses only; the rest is shared.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from exporters.runners import InputError
from model_service import tracing
from model_service.errors import (
    InvalidRequest,
    ModelServiceError,
    NotPermitted,
    ServiceUnavailable,
    Unauthorized,
)
from model_service.metrics import INFERENCE_DURATION
from model_service.serving.accounting.keys import KeyUses
from model_service.serving.accounting.quotas import Quotas
from model_service.serving.accounting.usage import Usage
from model_service.serving.engine.failures import DeadlineExceeded
from model_service.serving.hosting.loaded_deployment import Flight, LoadedDeployment
from model_service.serving.http.rsgi import BodyLimits, client_address, read_body
from model_service.serving.http.trace import record_runs
from model_service.serving.protocols import Answer
from model_service.tiers import Tiers
from model_service.wrong_keys import WrongKeys

if TYPE_CHECKING:
    from exporters.base import Arrays
    from model_service.serving.engine.engine import Ran
    from model_service.serving.hosting.member import Member

T = TypeVar("T")

CLIENT_GONE = 499  # nginx's status for a client that closed the connection
_BEARER = "bearer "
# The memory of all requests together, in bodies of the largest size.
_BODIES = 8
# Decoding or encoding a larger one takes longer than switching to a thread.
_LARGE_BYTES = 1 << 20
_LATE = "the deadline has passed"


class TooManyAtOnce(NotPermitted):
    """The deployment's ``max_concurrency`` is reached."""

    code = "too_many_at_once"
    status = 429
    retry_after_s = 1


class ClientGone(Exception):
    """The client has closed the connection."""


class ProtocolAdapter(Protocol):
    """A protocol. ``read`` returns a decoder that takes the member, because the body may name it.

    ``is_packed``: decoding the body decompresses it, which may take far longer than its length suggests.
    """

    def is_packed(self, body: bytes, scope: Any) -> bool: ...

    def read(self, body: bytes, scope: Any, limit_bytes: int) -> DecodedBody: ...

    def write(
        self, hosted: LoadedDeployment, member: Member, request: Any, ran: Ran, seconds: float, scope: Any
    ) -> Answer: ...


@dataclass(frozen=True, slots=True)
class DecodedBody:
    """A decoded body. ``slow``: images or texts take too long to decode or encode on the event loop."""

    model: str | None
    of: Callable[[Member], Any]
    slow: bool = False


@dataclass(slots=True)
class _Tally:
    """The values counted for a request, also if it fails."""

    began: float
    member: Member
    caller: str  # the id of its key
    span: tracing.Span
    bytes_in: int = 0
    inference_s: float = 0.0


class _Memory:
    """The memory that the requests of all deployments may use together.

    A deployment uses at most as much as it leaves to the others: bodies that are announced and never sent
    cannot use up the memory of other deployments.
    """

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes

    @contextmanager
    def share(self, flight: Flight) -> Iterator[Callable[[int], None]]:
        """Yield a function that a request calls before it uses more bytes. All are released at the end.

        The function raises ServiceUnavailable.
        """
        held_bytes = 0

        def take(size_bytes: int) -> None:
            nonlocal held_bytes
            if flight.held_bytes + size_bytes > self._left_bytes:
                raise ServiceUnavailable(
                    "The bodies of other requests use all the memory for requests: try again."
                )
            held_bytes += size_bytes
            flight.held_bytes += size_bytes
            self._left_bytes -= size_bytes

        try:
            yield take
        finally:
            flight.held_bytes -= held_bytes
            self._left_bytes += held_bytes


class InferenceHandler:
    def __init__(
        self,
        usage: Usage,
        key_uses: KeyUses,
        quotas: Quotas,
        tiers: Tiers,
        *,
        bodies: BodyLimits,
        wrong_keys: WrongKeys | None = None,
        proxies: int = 0,
    ) -> None:
        """``proxies``: the number of trusted proxies that report the client's address; TRUSTED_PROXIES."""
        self._usage = usage
        self._key_uses = key_uses
        self._quotas = quotas
        self._tiers = tiers
        self._bodies = bodies
        self._wrong_keys = wrong_keys
        self._proxies = proxies
        self._memory = _Memory(bodies.most_bytes * _BODIES)

    def opens(self, hosted: LoadedDeployment, headers: Mapping[str, str]) -> str | None:
        """Return the id of the key that was sent, if it is one of the deployment's."""
        sent = headers.get("authorization") or ""
        key = sent[len(_BEARER) :].strip() if sent[: len(_BEARER)].lower() == _BEARER else None
        return hosted.keys.accepts(key or headers.get("x-api-key") or "")

    def authorize(self, hosted: LoadedDeployment, scope: Any) -> str:
        """Like ``opens``, but a missing or wrong key is an error.

        Raises:
            Unauthorized: no key, or not one of the deployment's.
            RateLimited: too many wrong keys came from the client's address.
        """
        key_id = self.opens(hosted, scope.headers)
        if key_id is None:
            if self._wrong_keys is not None and (
                "authorization" in scope.headers or "x-api-key" in scope.headers
            ):
                self._wrong_keys.note(client_address(scope, self._proxies))
            raise Unauthorized(
                "This endpoint requires its key: 'Authorization: Bearer pk_…' or 'X-API-Key: pk_…'."
            )
        return key_id

    async def answer(
        self,
        hosted: LoadedDeployment,
        adapter: ProtocolAdapter,
        named: str | None,
        scope: Any,
        protocol: Any,
        span: tracing.Span = tracing.NOTHING,
    ) -> Answer:
        """Answer one request. ``named``: the member that the path names, if it does.

        Raises:
            Unauthorized, RateLimited, QuotaExceeded, TooManyAtOnce: before the body is read.
            InvalidRequest: the request is invalid.
            DeadlineExceeded, ClientGone.
        """
        key_id = self.authorize(hosted, scope)
        _require_room(hosted)
        limits = self._tiers.of(self._tiers.tier_of(hosted.owner, hosted.tier))
        admission = self._quotas.admit(hosted.owner, limits)
        self._key_uses.note(key_id)
        tally = _Tally(time.perf_counter(), hosted.route.members[0], key_id, span)
        status, sent = 500, 0
        try:
            answer = await self._answer(hosted, adapter, named, scope, protocol, tally)
            status, sent = 200, len(answer.body)
            answer.headers.extend(admission.headers())
        except ModelServiceError as error:
            status = error.status
            raise
        except (ClientGone, asyncio.CancelledError):
            status = CLIENT_GONE
            raise
        finally:
            self._count(hosted, tally, status, sent)
        return answer

    async def _answer(
        self,
        hosted: LoadedDeployment,
        adapter: ProtocolAdapter,
        named: str | None,
        scope: Any,
        protocol: Any,
        tally: _Tally,
    ) -> Answer:
        with self._memory.share(hosted.flight) as take:
            body = await read_body(scope, protocol, self._bodies, hosted.timeout_s, take)
            tally.bytes_in = len(body)
            _require_room(hosted)  # others may have been faster
            hosted.flight.requests += 1
            try:
                return await self._inferred(hosted, adapter, named, body, scope, protocol, tally, take)
            finally:
                hosted.flight.requests -= 1

    async def _inferred(
        self,
        hosted: LoadedDeployment,
        adapter: ProtocolAdapter,
        named: str | None,
        body: bytes,
        scope: Any,
        protocol: Any,
        tally: _Tally,
        take: Callable[[int], None],
    ) -> Answer:
        # The time that a client takes to send is not counted as the model's
        began = tally.began = time.perf_counter()
        large = len(body) > _LARGE_BYTES or adapter.is_packed(body, scope)
        decoded = await _call(adapter.read, body, scope, self._bodies.most_bytes, aside=large)
        member = tally.member = hosted.route.choose(named or decoded.model, scope.headers)
        slow = large or decoded.slow
        request = await _call(decoded.of, member, aside=slow)
        grown_bytes = _bytes_of(request.inputs) - len(body)
        if grown_bytes > 0:  # decompressed data, or an image's pixels: they may wait long for the model
            take(grown_bytes)
        with tally.span.child("inference") as span:
            try:
                ran = member.run_now(request.inputs)
                if ran is None:
                    answer = member.submit(request.inputs, tally.caller)
                    ran = await _finished(answer, protocol, hosted.timeout_s)
            except InputError as exc:
                raise InvalidRequest(str(exc)) from None
            if span.is_recorded:
                record_runs(span, hosted, member, ran)
        tally.inference_s = ran.seconds
        if hosted.shadow is not None:
            hosted.shadow.follow(request.inputs, ran.outputs)
        seconds = time.perf_counter() - began
        slow = slow or _bytes_of(ran.outputs) > _LARGE_BYTES
        return await _call(adapter.write, hosted, member, request, ran, seconds, scope, aside=slow)

    def _count(self, hosted: LoadedDeployment, tally: _Tally, status: int, bytes_out: int) -> None:
        seconds = time.perf_counter() - tally.began
        INFERENCE_DURATION.observe(tally.inference_s)
        self._usage.count(
            hosted.id,
            tally.member.name,
            tally.member.model_version,
            status=status,
            seconds=seconds,
            inference_seconds=tally.inference_s,
            bytes_in=tally.bytes_in,
            bytes_out=bytes_out,
        )
        if hosted.guard is not None:
            hosted.guard.note(tally.member.name, status=status, seconds=seconds)


def _require_room(hosted: LoadedDeployment) -> None:
    """Raises TooManyAtOnce. A body takes no slot before it has arrived, so slow senders block no others."""
    if hosted.flight.requests >= hosted.max_concurrency:
        raise TooManyAtOnce(
            f"The deployment runs at most {hosted.max_concurrency} requests at a time: try again in a second."
        )


def _bytes_of(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


async def _call(work: Callable[..., T], *arguments: Any, aside: bool) -> T:
    """Call ``work``. ``aside``: in a thread, because it would block the event loop."""
    return await asyncio.to_thread(work, *arguments) if aside else work(*arguments)


async def _finished(answer: asyncio.Future[Ran], protocol: Any, timeout_s: float) -> Ran:
    """Wait for the model as long as the client waits.

    Raises:
        DeadlineExceeded, ClientGone: the request is cancelled; if its run has not begun, it never begins.
    """
    gone = asyncio.ensure_future(protocol.client_disconnect())
    gone.add_done_callback(lambda _: answer.cancel())
    late = asyncio.get_running_loop().call_later(timeout_s, answer.cancel, _LATE)
    try:
        return await answer
    except asyncio.CancelledError as exc:
        if exc.args == (_LATE,):
            raise DeadlineExceeded(timeout_s) from None
        if gone.done():
            raise ClientGone from None
        raise
    finally:
        late.cancel()
        gone.cancel()
        answer.cancel()
