"""The soak, for a moment: a HEMS is served again after each round of random faults."""

import re

import pytest

from fuzz import soak
from meter_runtime.bench import Bench


def test_a_hems_is_served_after_every_round(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["4", "--seed", "3"]) == 0
    *rounds, last = capsys.readouterr().out.splitlines()
    assert rounds
    assert all(re.search(r"^round \d+: .+; served after \d+\.\d s; ", line) for line in rounds)
    assert last == f"{len(rounds)} rounds, all served"


def test_a_meter_that_does_not_come_back_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "SERVED_WITHIN_S", 3.0)
    monkeypatch.setattr(Bench, "clear", lambda *_: None)
    monkeypatch.setattr(soak, "CATALOGUE", {"hang": None, "unplug": None})
    assert soak.main(["4"]) == 1
    told = capsys.readouterr().err
    assert re.match(r"soak: round 1 of seed 1: .*: not served within 3 s; ", told)
