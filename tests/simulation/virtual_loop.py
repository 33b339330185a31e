"""An event loop whose time is simulated, and the hosts that live on it.

Time stands still while anything is ready to run, and then jumps to the next timer; so an hour passes as fast as its
callbacks run, and the same seed always runs the same callbacks in the same order.

Every callback belongs to the host in whose context it was scheduled, or to nobody (the world outside). What belongs
to a paused host waits until it is resumed; what belongs to a dead one waits for ever.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from asyncio.events import Handle, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from enum import Enum, auto
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["Host", "HostState", "VirtualLoop", "current_host"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MOST_TURNS = 5_000_000


class HostState(Enum):
    """Whether a host's callbacks run."""

    RUNNING = auto()
    PAUSED = auto()
    DEAD = auto()


class Host:
    """What one process is to the loop: it runs, stands still (SIGSTOP), or is gone (SIGKILL)."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.state = HostState.RUNNING
        self.stopped_at: float | None = None
        self._loop = loop
        self._held: list[Handle] = []
        self.context = copy_context()
        self.context.run(_HOST.set, self)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine, and all that comes of it, on this host."""
        return self._loop.create_task(work, context=self.context)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.state is HostState.RUNNING:
            self.state, self.stopped_at = HostState.PAUSED, self._loop.time()

    def resume(self) -> None:
        """SIGCONT: all that became due meanwhile runs now, in its order."""
        if self.state is HostState.PAUSED:
            self._go_on()

    def kill(self) -> None:
        """SIGKILL: nothing of it runs again. Its callbacks are kept, or its tasks would be collected and cleaned up."""
        self.state = HostState.DEAD
        self.stopped_at = self.stopped_at or self._loop.time()

    def hold(self, handle: Handle) -> None:
        """Keep a callback until the host is resumed."""
        self._held.append(handle)

    def raise_from_the_dead(self) -> None:
        """Let it end properly, once the simulation is over."""
        self._go_on()

    def _go_on(self) -> None:
        self.state, self.stopped_at = HostState.RUNNING, None
        held, self._held = self._held, []
        for handle in held:
            self._loop.put_ready(self, handle)


_HOST: ContextVar[Host | None] = ContextVar("simulated_host", default=None)


def current_host() -> Host | None:
    """The host that is running now; None outside of all."""
    return _HOST.get()


class _NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number: sets of tasks are walked in the same order in every run."""

    def __init__(self, number: int, work: Any, **settings: Any) -> None:
        self._number = number
        super().__init__(work, **settings)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks by simulated time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._queue: deque[tuple[Host | None, Handle]] = deque()
        self._timers: list[tuple[float, int, Host | None, TimerHandle]] = []
        self._numbers = itertools.count(1)
        self._turns = 0
        # Strong: a task that nothing holds would be collected, and its `finally` would run.
        self.all_tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        """Run a callback as soon as it is its turn."""
        handle = Handle(callback, args, self, context)
        self._queue.append((_host_of(context), handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """Run a callback after so many seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """Run a callback at a time; those of the same time in the order in which they asked."""
        handle = TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), _host_of(context), handle))
        return handle

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **_: object,
    ) -> asyncio.Task[T]:
        """Make a task that belongs to the host of its context."""
        task = _NumberedTask(next(self._numbers), coro, loop=self, name=name, context=context)
        self.all_tasks.append(task)
        return task

    def put_ready(self, host: Host, handle: Handle) -> None:
        """Queue a callback that was held back."""
        self._queue.append((host, handle))

    def _run_once(self) -> None:
        self._turns += 1
        if self._turns > _MOST_TURNS:
            raise RuntimeError("the simulation does not end: something turns without letting time pass")
        if not self._queue:
            if not self._timers:
                raise RuntimeError("nothing is left that could happen: everybody waits for somebody")
            self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            _, _, host, timer = heapq.heappop(self._timers)
            self._queue.append((host, timer))
        for _ in range(len(self._queue)):
            host, handle = self._queue.popleft()
            if handle.cancelled():
                continue
            if host is None or host.state is HostState.RUNNING:
                handle._run()
            else:
                host.hold(handle)

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """Nothing to count: a cancelled timer is dropped when it is due."""

    def _process_events(self, event_list: object) -> None:
        raise AssertionError("there is no real input or output here")

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector that would have to be woken."""


def _host_of(context: Context | None) -> Host | None:
    return _HOST.get() if context is None else context.get(_HOST)
