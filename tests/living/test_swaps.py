"""The swaps, for a moment; and what they are there to find is found."""

import random
import re
from pathlib import Path

import pytest

from fuzz import swaps
from fuzz.swap_room import Room
from meter_runtime.metrology.service import MeteringService
from meter_runtime.units.contracts import SwitchPosition
from meter_runtime.units.keeper import Keeper


def test_units_come_and_go_in_every_order_and_nothing_is_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert swaps.main(["60", "--seed", "3"]) == 0
    told = capsys.readouterr().out
    counts = re.match(r"60 sequences, \d+ deeds: (\d+) minutes and (\d+) boundaries true", told)
    assert counts is not None
    assert min(int(count) for count in counts.groups()) >= 25


def test_a_sequence_is_the_same_each_time(tmp_path: Path) -> None:
    lived = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        lived.append(swaps.sequence(folder, random.Random("swaps 3 1")))
    assert lived[0] == lived[1]


def test_a_keeper_that_does_not_look_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(self: Keeper) -> None:
        pass

    monkeypatch.setattr(Keeper, "look", look)
    assert swaps.main(["20"]) == 1
    assert re.match(r"swaps: sequence \d+ of seed 1: ", capsys.readouterr().err)


def test_a_lost_reading_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    polled = 0
    poll = MeteringService.poll

    async def forgetful(self: MeteringService) -> None:
        nonlocal polled
        polled += 1
        if polled % 20 == 0:
            self.read_failures += 1
        await poll(self)

    monkeypatch.setattr(MeteringService, "poll", forgetful)
    assert swaps.main(["5"]) == 1
    assert "the undisturbed metering unit was not read" in capsys.readouterr().err


def test_a_switch_that_moves_unbidden_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = Room.lives

    async def knocked(self: Room, seconds: float) -> None:
        await lives(self, seconds)
        relay = self.switch.relay
        assert relay is not None
        relay.move_by_hand(SwitchPosition.OPEN)

    monkeypatch.setattr(Room, "lives", knocked)
    assert swaps.main(["3"]) == 1
    assert "and nobody said so" in capsys.readouterr().err
