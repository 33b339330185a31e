from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.simulation.virtual_loop import Host, VirtualLoop, current_host


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


class TestTime:
    def test_jumps_to_the_next_timer(self, loop: VirtualLoop) -> None:
        loop.run_until_complete(asyncio.sleep(86_400))

        assert loop.time() == 86_400

    def test_stands_still_while_anything_can_run(self, loop: VirtualLoop) -> None:
        async def spin() -> float:
            for _ in range(1000):
                await asyncio.sleep(0)
            return loop.time()

        assert loop.run_until_complete(spin()) == 0

    def test_makes_timeouts_work(self, loop: VirtualLoop) -> None:
        async def wait() -> None:
            async with asyncio.timeout(3):
                await asyncio.sleep(4)

        with pytest.raises(TimeoutError):
            loop.run_until_complete(wait())

        assert loop.time() == 3

    def test_cannot_go_on_when_everybody_waits(self, loop: VirtualLoop) -> None:
        async def wait() -> None:
            await asyncio.Event().wait()

        with pytest.raises(RuntimeError, match="everybody waits for somebody"):
            loop.run_until_complete(wait())


class TestHosts:
    def test_are_known_to_what_runs_on_them(self, loop: VirtualLoop) -> None:
        host = Host("a", loop)
        seen: list[object] = []

        async def on_host() -> None:
            await asyncio.sleep(1)
            await asyncio.create_task(child())

        async def child() -> None:
            seen.append(current_host())

        loop.run_until_complete(host.spawn(on_host()))

        assert seen == [host]
        assert current_host() is None

    def test_do_nothing_while_they_stand_still(self, loop: VirtualLoop) -> None:
        host, times = Host("a", loop), list[float]()

        async def tick() -> None:
            while True:
                await asyncio.sleep(1)
                times.append(loop.time())

        async def world() -> None:
            ticking = host.spawn(tick())
            await asyncio.sleep(2.5)
            host.pause()
            await asyncio.sleep(10)
            host.resume()
            await asyncio.sleep(1.5)
            ticking.cancel()

        loop.run_until_complete(world())

        assert times == [1, 2, 12.5, 13.5]

    def test_clean_nothing_up_when_they_are_killed(self, loop: VirtualLoop) -> None:
        host, cleaned = Host("a", loop), list[str]()

        async def work() -> None:
            try:
                await asyncio.sleep(1)
            finally:
                cleaned.append("finally")

        async def world() -> None:
            task = host.spawn(work())
            await asyncio.sleep(0.5)
            host.kill()
            task.cancel()
            await asyncio.sleep(5)

        loop.run_until_complete(world())
        before = list(cleaned)

        async def over() -> None:
            host.raise_from_the_dead()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        loop.run_until_complete(over())

        assert (before, cleaned) == ([], ["finally"])

    def test_have_what_came_meanwhile_in_its_order(self, loop: VirtualLoop) -> None:
        host, seen = Host("a", loop), list[int]()

        async def world() -> None:
            host.pause()
            for number in range(3):
                loop.call_soon(seen.append, number, context=host.context)
            await asyncio.sleep(1)
            assert seen == []
            host.resume()
            await asyncio.sleep(0)

        loop.run_until_complete(world())

        assert seen == [0, 1, 2]
