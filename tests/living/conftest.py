"""A bench to test against, and momonga as any program would use it."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import momonga
import pytest

from meter_runtime.bench.laboratory import Bench

T = TypeVar("T")


class Home:
    """momonga, unmodified, on a thread of its own: it blocks, the bench must not."""

    def __init__(self, bench: Bench, module: int = 0, **credentials: str) -> None:
        self._hems = momonga.Momonga(
            credentials.get("route_b_id", bench.route_b_id),
            credentials.get("password", bench.password),
            bench.modules[module].tty,
            scan_retries=1,
            join_retries=1,
        )
        self._hems.internal_xmit_interval = 0

    async def open(self) -> None:
        await asyncio.to_thread(self._hems.open)

    async def close(self) -> None:
        await asyncio.to_thread(self._hems.close)

    async def get(self, what: str, **arguments: Any) -> Any:
        """The result of momonga's ``get_…`` of this name."""
        return await asyncio.to_thread(getattr(self._hems, f"get_{what}"), **arguments)

    @contextlib.asynccontextmanager
    async def joined(self) -> AsyncIterator["Home"]:
        await self.open()
        try:
            yield self
        finally:
            await self.close()


async def steady(live: Callable[[], T], read: Callable[[], Any]) -> tuple[Any, T]:
    """What was read, and the meter's own value, which did not change meanwhile."""
    for _ in range(20):
        before = live()
        value = await read()
        if live() == before:
            return value, before
    raise AssertionError("the meter's value changed during each of twenty readings")


async def eventually(happened: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait, in real time, for what the other side of a serial line brings about."""
    async with asyncio.timeout(within_s):
        while not happened():  # noqa: ASYNC110 - what happens elsewhere sets no event of ours
            await asyncio.sleep(0.01)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose name is short enough for the path of a socket in it."""
    with tempfile.TemporaryDirectory(prefix="meter-") as name:
        yield Path(name)


@pytest.fixture
def anyone() -> type[Home]:
    return Home
