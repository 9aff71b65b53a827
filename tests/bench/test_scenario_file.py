"""The scenario file: what it may say, and one line for each mistake, with the place and advice."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from meter_runtime.bench.happenings import KINDS
from meter_runtime.bench.scenario import bench_options, load
from meter_runtime.bench.scenario.model import ACTIONS, BenchPart, Expectation, HemsPart, Step
from meter_runtime.bench.scenario.steps import describe, seconds_until
from meter_runtime.clock import JST
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.contracts import Wiring

WHOLE = """
title = "Everything there is"
about = "Nothing happens."
patience = "5s"

[bench]
modules = ["bp35c2:echo=0", "bp35a1"]
meter_module = "rs-wsuha-p"
air = "fast"
seed = 7
start = 2026-11-22T23:58:00
history = 2
load = "day.csv"
pv_kw = 0
profile = "kansai"
wiring = "1P2W"
notification = "infc"
password = "ABCDEFGHIJ12"

[hems]
kind = "command"
command = ["hems", "{tty}", "{route_b_id}"]
password = "WRONGWRONG00"
start = "by-step"

[[step]]
name = "storm"
at = "+10s"
when = "joined"
where = { peer = "hems0" }
within = "2m"
after = "1s"
do = "inject"
fault = "loss"
for = "10s"
count = 3
with = { rate = 0.5, direction = "up" }

[[step]]
do = "advance"
to = "00:00:10"

[[step]]
do = "clock-step"
by = "-40s"

[[expect]]
what = "rejoined"
since = "storm"
within = "120s"

[[expect]]
what = "response"
where = { service = "Get_SNA" }
since = "clear"
never = true
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "a.toml"
    path.write_text(text)
    return path


def test_a_file_may_say_everything_there_is(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    scenario = load(path)
    options = bench_options(scenario, tmp_path)
    assert options.hems_modules == ("bp35c2:echo=0", "bp35a1")
    assert options.start == datetime(2026, 11, 22, 23, 58, tzinfo=JST)
    assert options.load == tmp_path / "day.csv"
    assert options.wiring is Wiring.ONE_PHASE_TWO_WIRE
    assert not options.two_way
    assert options.seed == 7
    assert [describe(step) for step in scenario.step] == [
        "inject loss for=10s count=3 rate=0.5 direction=up",
        "advance to=00:00:10",
        "clock-step by=-40s",
    ]
    assert "ABCDEFGHIJ12" not in repr(scenario)
    assert "WRONGWRONG00" not in repr(scenario)


def test_a_title_is_enough(tmp_path: Path) -> None:
    assert load(written(tmp_path, 'title = "x"')).hems.kind == "none"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title = ", "not TOML"),
        ("about = 'x'", 'the file lacks the key "title"; add it'),
        ("titel = 'x'", 'the file has no key "titel"; did you mean "title"?'),
        ("[bench]\nmoduls = []", '[bench] has no key "moduls"; did you mean "modules"?'),
        ("[bench]\nmodules = []", "[bench] modules is empty"),
        ("[bench]\nmodules = ['bp35a']", "module 'bp35a' is not known; did you mean 'bp35a1'?"),
        ("[bench]\nair = 'fats'", '[bench] air: "fats" is not one of its values; did you mean'),
        ("[bench]\nseed = 'x'", "bench.seed: expected int, got str"),
        ("[bench]\nhistory = 42", "bench.history: expected int <= 41"),
        ("[bench]\nstart = 'noon'", "bench.start: invalid"),
        ("[bench]\npassword = 'short'", "a B-route password has 12 letters and digits"),
        ("[hems]\nkind = 'command'", '[hems] command goes with kind = "command"'),
        ("[hems]\ncommand = ['x']", '[hems] command goes with kind = "command"'),
        ("[hems]\nkind = 'monga'", 'did you mean "momonga"?'),
        ("[hems]\npassword = 12", "hems.password: expected str, got int"),
        ("step = 3", '"step" is a list; write [[step]] above each'),
        ("[[step]]\nat = '+1s'", "step 1 does nothing; give it a do: inject, clear"),
        ("[[step]]\ndo = 'injct'", 'called "injct"; did you mean "inject"?'),
        ("[[step]]\ndo = ['x']", "step 1: nothing can be done"),
        ("[[step]]\ndo = 'inject'", 'step 1 (inject) lacks the key "fault"'),
        ("[[step]]\ndo = 'inject'\nfalt = 'x'", '(inject) has no key "falt"; did you mean "fault"'),
        ("[[step]]\ndo = 'inject'\nfault = 'los'", 'no fault "los"; did you mean "loss"?'),
        (
            "[[step]]\ndo = 'inject'\nfault = 'loss'\nwith = { rat = 1 }",
            'step 1 (inject): fault loss has no parameter "rat"; did you mean "rate"?',
        ),
        (
            "[[step]]\ndo = 'inject'\nfault = 'loss'\nwith = { rate = 2 }",
            "rate=2 is not possible",
        ),
        ("[[step]]\ndo = 'clear'\nby = '1s'", '"clear" takes no "by"'),
        ("[[step]]\ndo = 'advance'", "give either by (a duration) or to (a time of day)"),
        ("[[step]]\ndo = 'advance'\nby = '1 s'", 'step 1 (advance) by: "1 s" is no duration'),
        ("[[step]]\ndo = 'advance'\nto = '25:00'", '"25:00" is no time of day; write 23:59:58'),
        ("[[step]]\ndo = 'clock-set'\nto = 'noon'", '"noon" is no date and time'),
        ("[[step]]\ndo = 'wait'\nfor = '1s'\nat = '5s'", "write +5s"),
        ("[[step]]\ndo = 'wait'\nfor = '1s'\nwhen = 'join'", 'is called "join"; did you mean'),
        ("[[step]]\ndo = 'wait'\nfor = '1s'\nname = 'left'", 'the name "left" is taken'),
        ("[[expect]]\nnever = true", 'expectation 1 lacks the key "what"'),
        ("[[expect]]\nwhat = 'rejoind'", 'called "rejoind"; did you mean "rejoined"?'),
        ("[[expect]]\nwhat = 'left'\nsince = 'strm'", 'since "strm" is no step'),
        ("[[expect]]\nwhat = 'left'\nwithin = 'soon'", '(left) within: "soon" is no duration'),
        ("[[expect]]\nwhat = 'left'\nnever = true\ncount = 1", "exclude each other; keep one"),
        ("[[expect]]\nwhat = 'left'\ncount = 0", "expected int >= 1"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    head = "" if text.startswith(("title", "titel", "about")) else 'title = "x"\n'
    path = written(tmp_path, head + text)
    with pytest.raises(UsageError) as wrong:
        load(path)
    assert told in str(wrong.value)
    assert str(wrong.value).startswith(f"{path}: ")
    assert "\n" not in str(wrong.value)


def test_a_file_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such scenario"):
        load(tmp_path / "b.toml")
    with pytest.raises(MeterError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("now", "to", "seconds"),
    [
        ("23:58:00", "00:00:10", 130),
        ("12:00:00", "12:00:01", 1),
        ("12:00:00", "12:00", 86_400),
        ("12:00:00.500", "12:00:01", 0.5),
    ],
)
def test_the_clock_is_advanced_to_the_next_such_time(now: str, to: str, seconds: float) -> None:
    moment = datetime.fromisoformat(f"2026-11-22T{now}+09:00")
    assert seconds_until(moment, to) == seconds
    assert seconds_until(moment.astimezone(UTC).astimezone(JST), to) == seconds


def test_the_manual_knows_every_word() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
    for word in (*KINDS, *ACTIONS):
        assert f"`{word}`" in manual, word
    for kind in (BenchPart, HemsPart, Step, Expectation):
        for key in msgspec.structs.fields(kind):
            assert re.search(rf"\b{key.encode_name}\b", manual), key.encode_name
    for path in (Path(__file__).parents[2] / "scenarios").glob("*.toml"):
        assert f"(../scenarios/{path.name}) | {load(path).title} |" in manual
