"""What a client holds for one event loop: connections, gate, counts."""

import asyncio
from collections import deque

import attrs

from verifik_async._config import Limiter
from verifik_async._deadline import CutOff, Watch
from verifik_async._gate import Gate
from verifik_async._transport import Pool
from verifik_async.errors import ClientClosedError
from verifik_async.models import ClientStats

# Latest answers whose latency is kept for the percentiles.
_LATENCIES = 2048


@attrs.define
class Counters:
    """Counts of one event loop; names as in `ClientStats`."""

    attempts: int = 0
    answered: int = 0
    failed: int = 0
    throttled: int = 0
    resent: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    latencies: deque[float] = attrs.field(factory=lambda: deque(maxlen=_LATENCIES))

    def count(
        self, sent: int, received: int, latency: float | None, *, resent: bool
    ) -> None:
        """Count a request on the wire that was not throttled.

        Args:
            sent: Bytes of its body.
            received: Bytes of the answer's body.
            latency: Seconds until it was answered with a result, or None.
            resent: Whether it was not its search's first.
        """
        self.attempts += 1
        self.resent += resent
        self.bytes_sent += sent
        self.bytes_received += received
        if latency is not None:
            self.latencies.append(latency)

    def count_throttled(self, sent: int, received: int) -> None:
        """Count a request on the wire that was throttled."""
        self.throttled += 1
        self.bytes_sent += sent
        self.bytes_received += received

    def add(self, other: "Counters") -> None:
        """Add the counts of another loop."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latencies.extend(other.latencies)


_SUMS = [field.name for field in attrs.fields(Counters) if field.name != "latencies"]


class LoopState:
    """Connections, gate and counts of one event loop, and who uses them now."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        gate: Gate,
        limiter: Limiter | None,
    ) -> None:
        self.loop = loop
        self.pool = pool
        self.gate = gate
        self.limiter = limiter
        self.counters = Counters()
        self.cut = CutOff(loop)  # when the client is closed
        self.watch = Watch(loop)
        self._searches = 0
        self._idle: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Count a search in."""
        self._searches += 1

    def end(self) -> None:
        """Count a search out."""
        self._searches -= 1
        if not self._searches and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def close(self, grace: float) -> None:
        """Let searches go on for `grace` seconds, cut the rest off, close.

        Whoever comes second waits for the first.
        """
        if self._closed is not None:
            await asyncio.shield(self._closed)
            return
        self._closed = self.loop.create_future()
        try:
            await self._drain(grace)
        finally:
            self._cut_off()
            self.gate.close()
            try:
                await self.pool.close()
            finally:
                self._closed.set_result(None)

    async def _drain(self, grace: float) -> None:
        if not self._searches:
            return
        self._idle = self.loop.create_future()
        try:
            async with asyncio.timeout(grace):
                # Shielded: one future serves the wait for what is cut off, too.
                await asyncio.shield(self._idle)
        except TimeoutError:
            self._cut_off()
            await self._idle

    def _cut_off(self) -> None:
        self.cut.cut(closed_error)
        self.watch.end_all()


def closed_error() -> ClientClosedError:
    """Return the error for a search on a closed client."""
    return ClientClosedError("the client is closed: make a new VerifikClient")


def _percentile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summarise(states: list[LoopState], retired: Counters, slots: int) -> ClientStats:
    """Return the counts of all loops, those that have ended included."""
    total = Counters()
    total.add(retired)
    for state in states:
        total.add(state.counters)
    ordered = sorted(total.latencies)
    return ClientStats(
        **{name: getattr(total, name) for name in _SUMS},
        in_flight=sum(state.gate.in_flight for state in states),
        waiting=sum(state.gate.waiting for state in states),
        window=sum(state.gate.window for state in states) or slots,
        latency_p50_s=_percentile(ordered, 0.50),
        latency_p95_s=_percentile(ordered, 0.95),
        latency_p99_s=_percentile(ordered, 0.99),
    )
