"""The fixture `meter_bench` as a HEMS project's tests use it: pytest in a process of its own."""

import asyncio
import re
import shutil
import threading
from pathlib import Path

import pytest

from meter_runtime.bench.background import BackgroundBench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.errors import MeterError, UsageError

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "hems-ci"

ALONE = ("-p", "no:cacheprovider", "-W", "error")


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    """What pytest makes of this test file, in a project that warns of nothing."""
    pytester.makepyfile(source)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester.runpytest_subprocess(*ALONE, *arguments)


def test_a_test_that_asks_for_a_meter_gets_one(pytester: pytest.Pytester) -> None:
    ran = run(
        pytester,
        """
        import os

        def test_it(meter_bench):
            assert os.path.exists(meter_bench.tty)
            assert len(meter_bench.route_b_id) == 32 and len(meter_bench.password) == 12
            assert meter_bench.status()["broute"]["text"] == "HEMS is unconnected"
            assert meter_bench.frames == []
            before = meter_bench.status()["clock"]["now"]
            meter_bench.advance(7200)
            assert meter_bench.status()["history"]["stored"] == 4
            assert meter_bench.status()["clock"]["now"] > before

        async def test_it_from_a_coroutine(meter_bench):
            meter_bench.advance(1800)
            assert meter_bench.status()["history"]["stored"] == 1
        """,
        "--asyncio-mode=auto",
    )
    ran.assert_outcomes(passed=2)


def test_options_come_from_the_project_and_from_the_test(pytester: pytest.Pytester) -> None:
    ran = run(
        pytester,
        """
        import pytest
        from meter_runtime.bench import BenchOptions

        pytestmark = pytest.mark.meter_bench(password="ABCDEFGHIJKL", history_days=2)

        @pytest.fixture
        def meter_bench_options():
            return BenchOptions(seed=7, hems_modules=("bp35a1", "bp35c2"))

        def test_the_projects(meter_bench):
            assert meter_bench.options.seed == 7
            assert len(set(meter_bench.ttys)) == 2
            assert meter_bench.password == "ABCDEFGHIJKL"
            assert meter_bench.status()["history"]["stored"] >= 96

        @pytest.mark.meter_bench(history_days=0, seed=8)
        def test_its_own(meter_bench):
            assert meter_bench.options.seed == 8
            assert meter_bench.password == "ABCDEFGHIJKL"
            assert meter_bench.status()["history"]["stored"] == 0
        """,
        "--strict-markers",
    )
    ran.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("histroy_days=1", 'meter_bench: no option "histroy_days"; did you mean "history_days"?'),
        (
            "hems_modules=('bp35a2',)",
            "meter_bench: module 'bp35a2' is not known; did you mean 'bp35c2'?",
        ),
        ("route_b_id='12'", "meter_bench: *"),
    ],
)
def test_a_wrong_option_is_one_line(pytester: pytest.Pytester, option: str, told: str) -> None:
    ran = run(
        pytester,
        f"""
        import pytest

        @pytest.mark.meter_bench({option})
        def test_it(meter_bench):
            pass
        """,
    )
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines([told])
    assert "During handling" not in ran.stdout.str()


def test_a_failed_test_tells_what_crossed_the_air(pytester: pytest.Pytester) -> None:
    shutil.copy(EXAMPLE / "my_hems.py", pytester.path)
    ran = run(
        pytester,
        """
        import my_hems

        def test_it(meter_bench):
            link = my_hems.MeterLink(meter_bench.tty)
            link.join(meter_bench.route_b_id, meter_bench.password)
            power = link.power_w()
            link.close()
            assert power == 100_000
        """,
    )
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(
        ["*- meter bench -*", "seed 1; diagnosis: *", "* hems0 → meter Get E7", "*Get_Res E7=*"]
    )


def test_tests_run_side_by_side(pytester: pytest.Pytester) -> None:
    ran = run(
        pytester,
        """
        import os, pathlib, pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(meter_bench, number):
            tty = pathlib.Path(meter_bench.tty).resolve()
            pathlib.Path(f"seen-{os.getpid()}-{number}").write_text(str(tty))
            meter_bench.advance(1800)
            assert meter_bench.status()["history"]["stored"] == 1
        """,
        "-n",
        "2",
    )
    ran.assert_outcomes(passed=4)
    workers = {path.name.split("-")[1] for path in pytester.path.glob("seen-*")}
    assert len(workers) == 2


def test_a_missing_dependency_is_told_in_one_line(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys; sys.modules['serialx'] = None")
    ran = run(pytester, "def test_it(meter_bench):\n    pass\n\ndef test_other():\n    pass")
    ran.assert_outcomes(errors=1, passed=1)
    ran.stdout.fnmatch_lines(["meter_bench: *serialx*pip install 'meter-runtime?bench?'"])


def test_a_run_without_a_meter_does_not_load_the_laboratory(pytester: pytest.Pytester) -> None:
    ran = run(
        pytester,
        """
        import sys

        def test_it():
            assert "meter_runtime.bench.pytest_plugin" in sys.modules
            assert "meter_runtime.bench.laboratory" not in sys.modules
            assert "cryptography" not in sys.modules
        """,
    )
    ran.assert_outcomes(passed=1)


def test_the_example_project_passes(pytester: pytest.Pytester) -> None:
    project = pytester.path / "hems-ci"
    shutil.copytree(EXAMPLE, project)
    ran = pytester.runpytest_subprocess(
        *ALONE, "-p", "no:asyncio", "-n", "2", "--rootdir", project, project
    )
    outcomes = ran.parseoutcomes()
    assert outcomes.keys() == {"passed"}, ran.stdout.str()
    seconds = re.search(r"passed in ([0-9.]+)s", ran.stdout.str())
    assert seconds is not None
    assert float(seconds[1]) < 30  # on a machine that does other things, too; below ten alone


def test_nothing_is_left_of_a_closed_bench() -> None:
    threads = threading.active_count()
    with BackgroundBench() as bench:
        tty = Path(bench.tty)
        assert tty.exists()
    assert not tty.is_symlink()
    assert threading.active_count() == threads
    bench.close()
    with pytest.raises(MeterError, match="has ended"):
        bench.status()


def test_a_bench_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bench = BackgroundBench(BenchOptions(state_dir=tmp_path / "file" / "state"))
    with pytest.raises(MeterError, match="state: cannot be made"):
        bench.start()
    bench.close()


def test_a_bench_that_was_not_started_says_so() -> None:
    with pytest.raises(MeterError, match="has not been started"):
        BackgroundBench().status()


def test_work_on_the_bench_is_bounded() -> None:
    with BackgroundBench() as bench:
        with pytest.raises(MeterError, match=r"did not answer within 0.1 s"):
            bench.do_async(lambda _: asyncio.Event().wait(), 0.1)
        assert bench.status()["meter_id"] == "BENCH-1"


def test_what_happens_can_be_waited_for() -> None:
    with BackgroundBench() as bench:
        assert bench.wait_for("link-started").kind == "link-started"
        with pytest.raises(MeterError, match=r'"boundary" did not happen within 0\.1 s'):
            bench.wait_for("boundary", 0.1)
        bench.advance(3600)
        first, second = (bench.wait_for("boundary", times=times) for times in (1, 2))
        assert second.wall - first.wall == pytest.approx(1800, abs=1)
        assert [one.kind for one in bench.happenings].count("boundary") == 2
        with pytest.raises(UsageError, match='did you mean "boundary"'):
            bench.wait_for("boundry")


def test_a_fault_begins_and_ends() -> None:
    with BackgroundBench() as bench:
        bench.inject("loss", rate=0.5)
        assert [fault["name"] for fault in bench.status()["faults"]] == ["loss"]
        bench.clear()
        assert bench.status()["faults"] == []
        with pytest.raises(UsageError, match='no fault "los"'):
            bench.inject("los")
