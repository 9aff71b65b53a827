"""A scenario's course: steps in order, waits with an end, a HEMS that is watched and ended."""

from pathlib import Path
from xml.etree import ElementTree

from meter_runtime.bench.happenings import Happening
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.scenario import Report, bench_options, load, play
from meter_runtime.bench.scenario.junit import document
from meter_runtime.bench.scenario.player import Result

SLOW = 'command = ["{python}", "-c", "import time; print(1, flush=True); time.sleep(99)"]'


async def played(
    folder: Path, text: str, *, own_hems: bool = False
) -> tuple[Report, list[Happening], list[str]]:
    """The report, what happened from the scenario's begin, and the steps that were taken."""
    path = folder / "a.toml"
    path.write_text('title = "x"\npatience = "1s"\n' + text)
    scenario = load(path)
    announced: list[str] = []
    heard: list[Happening] = []
    async with Bench(bench_options(scenario, folder)) as bench:
        bench.subscribe(heard.append)
        report = await play(scenario, bench, announce=announced.append, own_hems=own_hems)
    return report, heard, announced


async def test_steps_are_taken_one_after_another_on_the_benchs_clock(tmp_path: Path) -> None:
    text = """
    [bench]
    start = 2026-11-22T12:00:00
    [[step]]
    do = "inject"
    fault = "loss"
    with = { rate = 0.1 }
    [[step]]
    do = "advance"
    to = "12:10:00"
    [[step]]
    at = "+1m"
    do = "clear"
    [[step]]
    when = "clear"
    do = "advance"
    by = "25m"
    [[step]]
    when = "boundary"
    where = { at = "*T12:30*" }
    do = "clock-step"
    by = "-1h"
    [[expect]]
    what = "boundary"
    count = 1
    since = "fault"
    [[expect]]
    what = "clock-step"
    """
    report, heard, announced = await played(tmp_path, text)
    assert report.passed, report.results
    assert announced == [
        "inject loss rate=0.1",
        "advance to=12:10:00",
        "clear",
        "advance by=25m",
        "clock-step by=-1h",
    ]
    kinds = [happening.kind for happening in heard if happening.kind != "announced"]
    order = ["fault", "advanced", "clear", "boundary", "advanced", "clock-step"]
    assert [kind for kind in kinds if kind in order] == order
    assert 34 * 60 < report.lasted_s < 36 * 60


async def test_a_step_that_waits_in_vain_fails_the_scenario(tmp_path: Path) -> None:
    text = """
    [[step]]
    when = "joined"
    within = "0.2s"
    do = "inject"
    fault = "loss"
    [[step]]
    do = "clear"
    [[expect]]
    what = "fault"
    never = true
    """
    report, _, announced = await played(tmp_path, text)
    assert not report.passed
    assert announced == []
    failed, kept = report.results
    assert failed.what == "step 1: inject loss"
    assert failed.reason == "waited 0.2s for joined, which did not happen"
    assert kept.passed


async def test_patience_ends_what_never_comes(tmp_path: Path) -> None:
    report, _, _ = await played(tmp_path, '[[expect]]\nwhat = "joined"')
    assert [result.reason for result in report.results] == ["it did not happen"]
    assert 1 <= report.lasted_s < 5


async def test_a_hems_that_cannot_be_started_ends_it_at_once(tmp_path: Path) -> None:
    text = '[hems]\nkind = "command"\ncommand = ["/no/such/hems"]\n[[expect]]\nwhat = "joined"'
    report, _, _ = await played(tmp_path, text)
    reasons = [result.reason for result in report.results]
    assert any("/no/such/hems cannot be started: No such file" in reason for reason in reasons)
    assert report.lasted_s < 1


async def test_a_hems_is_heard_and_its_password_is_not(tmp_path: Path) -> None:
    program = "import os,sys; print('x' * 5000); print(os.environ['ROUTE_B_PASSWORD'])"
    program += "; print(sys.argv[1]); print('no end', end=''); sys.exit(7)"
    text = f"""
    [bench]
    password = "ABCDEFGHIJ12"
    [hems]
    kind = "command"
    command = ["{{python}}", "-c", {program!r}, "{{tty}}"]
    [[expect]]
    what = "hems-ended"
    where = {{ status = 7 }}
    """
    report, heard, _ = await played(tmp_path, text)
    assert report.passed
    said = [h.detail["text"] for h in heard if h.kind == "hems-said"]
    assert "".join(said[:-3]) == "x" * 5000
    assert said[-3] == "••••••"
    assert said[-2].endswith("/hems0")
    assert said[-1] == "no end"


async def test_steps_stop_and_start_the_hems(tmp_path: Path) -> None:
    text = f"""
    [hems]
    kind = "command"
    {SLOW}
    start = "by-step"
    [[step]]
    do = "stop-hems"
    [[step]]
    do = "start-hems"
    [[step]]
    when = "hems-said"
    do = "stop-hems"
    [[step]]
    when = "hems-ended"
    do = "start-hems"
    [[expect]]
    what = "hems-started"
    count = 2
    [[expect]]
    what = "hems-said"
    at_least = 2
    """
    report, heard, _ = await played(tmp_path, text)
    assert report.passed, report.results
    ends = [h.detail["status"] for h in heard if h.kind == "hems-ended"]
    assert ends == [-15, -15]  # nothing is left when it is over


async def test_somebody_elses_hems_is_left_to_them(tmp_path: Path) -> None:
    text = f'[hems]\nkind = "command"\n{SLOW}\n[[expect]]\nwhat = "hems-started"\nnever = true'
    report, _, _ = await played(tmp_path, text, own_hems=True)
    assert report.passed


def test_the_verdicts_are_junit_xml() -> None:
    results = (Result("joined", True, "after 1 s"), Result("never <left>", False, "1\x00 & 2"))
    root = ElementTree.fromstring(document(Report("x", results, 1.25), "a"))  # noqa: S314
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("time")) == ("2", "1", "1.250")
    good, bad = suite.findall("testcase")
    assert good.find("failure") is None
    failure = bad.find("failure")
    assert failure is not None
    assert (bad.get("name"), failure.get("message")) == (
        "never <left>",
        "1\N{REPLACEMENT CHARACTER} & 2",
    )
