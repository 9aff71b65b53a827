"""``meter-runtime headend``: every role's commands behind one name, and the control side's own."""

import importlib
import json
from pathlib import Path

import pytest

from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.cli import headend
from meter_runtime.cli.parser import Parser
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.lab import Lab

Output = pytest.CaptureFixture[str]
SEND = ("--meter", "M-1", "--by", "sato")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab.create(tmp_path / "lab")
    lab.enroll("M-1", MeterIdentity.from_device_key(bytes(32)).public)
    return lab


def typed(*words: str) -> int:
    parser = Parser(prog="meter-runtime")
    headend.register(parser.add_subparsers(parser_class=Parser))
    return headend.run(parser.parse_args(["headend", *words]))


def at(lab: Lab, *words: str) -> int:
    return typed(*words, "--lab", str(lab.path))


def test_every_action_is_its_modules_and_every_modules_action_is_listed() -> None:
    registered: dict[str, str] = {}
    for module in {module for module, _ in headend.ACTIONS.values()}:
        actions = Parser(prog="x").add_subparsers()
        importlib.import_module(f"meter_runtime.cli.headend_{module}").register(actions)
        registered |= dict.fromkeys(actions.choices, module)
    assert registered == {name: module for name, (module, _) in headend.ACTIONS.items()}


@pytest.mark.parametrize("action", headend.ACTIONS)
def test_every_action_explains_itself_with_an_example(action: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        typed(action, "--help")
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert out.startswith(f"usage: meter-runtime headend {action} ")
    assert f"meter-runtime headend {action} " in out.partition("example")[2] or "actions:" in out


def test_a_command_waits_in_the_store_until_the_scs_runs(lab: Lab, capsys: Output) -> None:
    assert at(lab, "send", "limit.set", *SEND, "--arg", "limit_a=30", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["meter_id"] == "M-1"
    assert (document["ended"], document["sent"], document["result"]) == (False, 0, None)
    assert at(lab, "sent") == 0
    assert f"{document['request']}  limit.set to M-1 by sato: no result yet" in (
        capsys.readouterr().out
    )
    assert at(lab, "sent", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [document]


def test_a_result_that_does_not_come_is_a_failure_in_one_line(lab: Lab) -> None:
    with pytest.raises(MeterError, match=r"no result within 0\.1 s"):
        at(lab, "send", "self_test", *SEND, "--wait", "0.1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("send", "keys.rotate", *SEND), "meter-runtime keys rotate"),
        (("send", "broute.revoke", *SEND), "from the business side alone"),
        (("send", "self_test", "--by", "sato"), "--meter"),
        (("send", "self_test", *SEND, "--expires", "soon"), "is no duration"),
        (("send", "self_test", *SEND, "--arg", "x"), "KEY=VALUE"),
        (("send", "self_test", "--meter", "M-2", "--by", "sato"), 'did you mean "M-1"'),
    ],
)
def test_wrong_use_is_told(lab: Lab, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        at(lab, *words)


def test_no_laboratory_is_told(tmp_path: Path) -> None:
    for action in ("relay", "scs", "sent"):
        with pytest.raises(UsageError, match="meter-runtime keys init"):
            typed(action, "--lab", str(tmp_path))
