"""The utility in a scenario: what its operator sees, what he commands, and mistakes of either."""

from itertools import pairwise
from pathlib import Path

import pytest

from meter_runtime.aroute.local_status import BROUTE
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.scenario import Report, bench_options, load, play
from meter_runtime.bench.scenario.office import REMOTE, at_work, seen
from meter_runtime.broute.diagnosis import NotServed, OutOfService
from meter_runtime.errors import UsageError

QUIET = BenchOptions(hems_modules=("bp35a1:pace=1ms",), meter_module="bp35a1:pace=1ms")


def written(folder: Path, text: str) -> Path:
    path = folder / "a.toml"
    path.write_text('title = "x"\npatience = "10s"\n' + text)
    return path


async def played(path: Path) -> Report:
    scenario = load(path)
    async with Bench(bench_options(scenario, path.parent)) as bench:
        return await play(scenario, bench)


async def test_a_command_is_obeyed_and_both_see_what_came_of_it(tmp_path: Path) -> None:
    text = """
    [[step]]
    do = "command"
    command = "broute.revoke"
    [[expect]]
    what = "diagnosis-remote"
    where = { message = 0, why = "revoked" }
    [[expect]]
    what = "diagnosis-on-site"
    where = { message = 0, why = "revoked", items = "-", causes = "-" }
    """
    report = await played(written(tmp_path, text))
    assert report.passed, report.results


async def test_a_command_that_is_refused_fails_the_scenario(tmp_path: Path) -> None:
    text = """
    [[step]]
    do = "command"
    command = "switch.open"
    [[expect]]
    what = "diagnosis-remote"
    """
    failed, seen_once = (await played(written(tmp_path, text))).results
    assert (failed.what, failed.passed) == ("step 1: command switch.open", False)
    assert failed.reason.startswith("the meter answered UNIT_ABSENT: ")
    assert seen_once.passed


async def test_a_terminal_at_the_local_port_sees_the_same() -> None:
    async with Bench(QUIET) as bench:
        report = bench.status()["broute"]
    at_the_port = {key: value for key, value in report.items() if key in BROUTE}
    assert seen(at_the_port) == seen(report)


async def test_only_what_became_another_is_noted() -> None:
    async with Bench(QUIET) as bench, at_work(bench) as office:
        await office.command("broute.revoke", {})
        await office.command("broute.status", {})
        told = [each.detail for each in bench.happenings if each.kind == REMOTE]
    assert all(one != other for one, other in pairwise(told))


def test_who_is_not_served_is_told_why() -> None:
    told = seen(OutOfService(NotServed.COMBINATION, ("U-03",)).report())
    assert told == {"message": 0, "alarm": True, "why": "combination", "causes": "-", "items": "-"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[[step]]\ndo = "command"\ncommand = "broute.revok"',
            'no command is called "broute.revok"; did you mean "broute.revoke"?',
        ),
        ('[[step]]\ndo = "command"', 'step 1 (command) lacks the key "command"'),
        (
            '[[step]]\ndo = "command"\ncommand = "broute.rewrite_password"',
            "step 1 (command) with: ",
        ),
        (
            '[[step]]\ndo = "start-hems"\nwith = { pasword = "A" }',
            'step 1 (start-hems): no HEMS is told a "pasword"; did you mean "password"?',
        ),
        (
            '[[step]]\ndo = "start-hems"\nwith = { password = 123456789012 }',
            "step 1 (start-hems): password is a text; put it in quotes",
        ),
        ('[bench]\nunit = "a.toml"', '[bench] has no key "unit"; did you mean "units"?'),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as wrong:
        load(written(tmp_path, text))
    assert told in str(wrong.value)


async def test_a_hems_on_the_wiring_needs_a_house_with_it(tmp_path: Path) -> None:
    text = '[hems]\nkind = "plc"\n[[expect]]\nwhat = "joined"'
    failed, _ = (await played(written(tmp_path, text))).results
    assert failed.reason == '[hems] kind = "plc" needs [bench] units with a PLC unit'
