"""inject, clear and clock: what is asked of the bench, and what a person sees."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meter_runtime.bench.faults.catalogue import CATALOGUE
from meter_runtime.cli import main
from meter_runtime.control import ControlServer
from meter_runtime.errors import UsageError

SLOW: dict[str, Any] = {
    "name": "slow",
    "group": "application",
    "parameters": {"seconds": 8.0},
    "since": "2026-11-22T12:00:00+09:00",
    "until": "2026-11-22T12:05:00+09:00",
    "effects": 0,
    "left": 3,
}


@dataclass
class Desk:
    """A bench that remembers what it was asked."""

    path: Path
    asked: list[dict[str, Any]] = field(default_factory=list)
    active: list[dict[str, Any]] = field(default_factory=list)

    async def command(self, *argv: str) -> int:
        return await asyncio.to_thread(main, [*argv, "--control", str(self.path)])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "control.sock")

    async def inject(request: dict[str, Any]) -> object:
        desk.asked.append(request)
        if request["fault"] not in CATALOGUE:
            raise UsageError(f'no fault "{request["fault"]}"; did you mean "slow"?')
        return {"faults": desk.active}

    async def clear(request: dict[str, Any]) -> object:
        desk.asked.append(request)
        return {"cleared": [fault["name"] for fault in desk.active]}

    async def clock(request: dict[str, Any]) -> object:
        desk.asked.append(request)
        return {"now": "2026-11-22T23:59:50+09:00"}

    server = ControlServer(desk.path, {"inject": inject, "clear": clear, "clock": clock})
    await server.start()
    yield desk
    await server.close()


async def test_a_fault_is_begun_with_its_settings(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.active = [SLOW]
    assert await desk.command("inject", "slow", "seconds=8s", "count=3", "--for", "5m") == 0
    assert desk.asked == [
        {"fault": "slow", "for_s": 300.0, "count": 3, "parameters": {"seconds": "8s"}}
    ]
    assert capsys.readouterr().out == (
        "slow seconds=8.0: active since 2026-11-22T12:00:00+09:00,"
        " until 2026-11-22T12:05:00+09:00, 3 effects left\n"
    )


async def test_settings_may_stand_behind_options(desk: Desk) -> None:
    assert await desk.command("inject", "slow", "--for", "30s", "seconds=2") == 0
    assert desk.asked[0]["parameters"] == {"seconds": "2"}


async def test_what_happens_at_once_is_done(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert await desk.command("inject", "reboot") == 0
    assert capsys.readouterr().out == "reboot: done\n"


async def test_the_active_faults_are_one_document(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.active = [SLOW]
    assert await desk.command("inject", "slow", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"faults": [SLOW]}


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        (("inject", "slwo"), 'no fault "slwo"; did you mean "slow"?'),
        (("inject", "slow", "8s"), '"8s" is no setting; write KEY=VALUE'),
        (("inject", "slow", "count=many"), "count=many: give a whole number of effects"),
        (("inject",), "name a fault; 'meter-runtime inject --list' shows all of them"),
        (("inject", "slow", "--for", "soon"), '"soon" is no duration'),
        (("clock", "set", "tomorrow"), '"tomorrow" is no time'),
        (("clock", "step", "far"), '"far" is no duration'),
        (("clock", "rate", "fast"), '"fast" is no rate'),
        (("clock", "back"), "invalid choice"),
    ],
)
async def test_a_mistake_is_one_line(
    desk: Desk, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], wrong: str
) -> None:
    assert await desk.command(*argv) == 2
    complaint = capsys.readouterr().err
    assert wrong in complaint
    assert complaint.count("\n") == 1


def test_the_list_has_every_fault_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inject", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, fault in CATALOGUE.items():
        assert any(line.split()[:1] == [name] for line in lines), name
        for parameter in fault.parameters:
            assert any(line.strip().startswith(parameter.name) for line in lines), parameter.name
    assert main(["inject", "--list", "--json"]) == 0
    assert {fault["name"] for fault in json.loads(capsys.readouterr().out)} == set(CATALOGUE)


@pytest.mark.parametrize("name", [None, "slow"])
async def test_faults_are_cleared(
    desk: Desk, capsys: pytest.CaptureFixture[str], name: str | None
) -> None:
    desk.active = [SLOW]
    assert await desk.command("clear", *([name] if name else [])) == 0
    assert desk.asked == [{"fault": name}]
    assert capsys.readouterr().out == "cleared slow\n"
    desk.active = []
    assert await desk.command("clear", *([name] if name else [])) == 0
    assert "active" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (("set", "2026-11-22T23:59:50"), {"set": 1795359590.0}),
        (("set", "2026-11-22T14:59:50+00:00"), {"set": 1795359590.0}),
        (("step", "90s"), {"step": 90.0}),
        (("step", "+30m"), {"step": 1800.0}),
        (("step", "-1h30m"), {"step": -5400.0}),
        (("rate", "50"), {"rate": 50.0}),
        (("rate", "-12.5"), {"rate": -12.5}),
    ],
)
async def test_the_clock_is_set_stepped_and_tuned(
    desk: Desk,
    capsys: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    wanted: dict[str, float],
) -> None:
    assert await desk.command("clock", *argv) == 0
    assert desk.asked == [wanted]
    assert capsys.readouterr().out == "the meter's clock shows 2026-11-22T23:59:50+09:00\n"
