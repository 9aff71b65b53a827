"""The pytest fixture ``meter_bench``: a smart meter in your HEMS's own tests.

Registered as an entry point, so that it is there wherever meter-runtime is installed; it imports
the laboratory only when a test asks for it. Each test gets a bench of its own, with its own serial
device, so tests run side by side under pytest-xdist. A failed test's report tells what crossed the
air.
"""

import dataclasses
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.secret import Secret

if TYPE_CHECKING:
    from meter_runtime.bench.background import BackgroundBench
    from meter_runtime.bench.options import BenchOptions

FRAMES_TOLD = 20
"""How much of the air a failed test's report shows."""

_MARK = (
    "meter_bench(**options): options of this test's meter_bench, by the names of BenchOptions, "
    "as in meter_bench(hems_modules=('bp35c2',), history_days=1)"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def meter_bench_options() -> "BenchOptions":
    """What ``meter_bench`` is made of; override it for a module or a whole project."""
    try:
        from meter_runtime.bench.options import BenchOptions
    except ImportError as missing:
        raise _not_installed(missing) from None
    return BenchOptions()


@pytest.fixture
def meter_bench(
    request: pytest.FixtureRequest, meter_bench_options: "BenchOptions"
) -> "Iterator[BackgroundBench]":
    """A running meter with a household behind it and a Wi-SUN module on a serial device.

    Your HEMS joins at ``meter_bench.tty`` with ``.route_b_id`` and ``.password``.
    """
    try:
        from meter_runtime.bench.background import BackgroundBench
    except ImportError as missing:
        raise _not_installed(missing) from None
    try:
        bench = BackgroundBench(_marked(meter_bench_options, request.node))
        bench.start()
    except MeterError as failure:
        raise pytest.fail.Exception(f"meter_bench: {failure}", pytrace=False) from None
    try:
        yield bench
    finally:
        bench.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a failed test show what the meter saw."""
    report = yield
    bench = getattr(item, "funcargs", {}).get("meter_bench")
    if report.when == "call" and report.failed and bench is not None:
        report.sections.append(("meter bench", _story(bench)))
    return report


def _not_installed(missing: ImportError) -> BaseException:
    return pytest.fail.Exception(
        f"meter_bench: {missing}; install the extra: pip install 'meter-runtime[bench]'",
        pytrace=False,
    )


def _marked(options: "BenchOptions", node: pytest.Item) -> "BenchOptions":
    """The options with what the test's, its class's and its module's markers say."""
    known = {field.name for field in dataclasses.fields(options)}
    changes: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("meter_bench"))):
        changes |= marker.kwargs
    for name in changes:
        if name not in known:
            raise UsageError(f'no option "{name}"; {nearest(name, known)}')
    if isinstance(changes.get("password"), str):
        changes["password"] = Secret(changes["password"])
    return dataclasses.replace(options, **changes)


def _story(bench: "BackgroundBench") -> str:
    try:
        frames, broute = bench.frames, bench.status()["broute"]
    except MeterError as failure:
        return str(failure)
    told = [f"seed {bench.options.seed}; diagnosis: {broute['message']} {broute['text']}"]
    if len(frames) > FRAMES_TOLD:
        told.append(f"… {len(frames) - FRAMES_TOLD} frames before")
    told += [
        f"{frame.clock_time} {frame.source} → {frame.destination} {frame.summary}"
        for frame in frames[-FRAMES_TOLD:]
    ]
    return "\n".join(told)
