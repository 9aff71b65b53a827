"""``meter-runtime keys``: what a person types, and that no private key is ever shown."""

import json
import re
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meter_runtime.aroute import results
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.envelope import unseal, verify
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.results import Result
from meter_runtime.cli import keys
from meter_runtime.cli.parser import Parser
from meter_runtime.device_key import load_device_key
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.lab import SCS, Lab
from meter_runtime.headend.scs_store import ScsStore, Task

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands


def typed(*words: str) -> int:
    parser = Parser(prog="meter-runtime")
    commands: Commands = parser.add_subparsers(dest="command", parser_class=Parser)
    keys.register(commands)
    args: Namespace = parser.parse_args(["keys", *words])
    return keys.run(args)


def configuration(folder: Path, meter_id: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "meter.toml"
    file.write_text(f'[meter]\nid = "{meter_id}"\n[storage]\ndevice_key_file = "device.key"\n')
    return file


def identity(folder: Path) -> MeterIdentity:
    return MeterIdentity.from_device_key(load_device_key(folder / "device.key"))


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    """A laboratory with two meters."""
    assert typed("init", str(tmp_path / "lab")) == 0
    for meter_id in ("M-1", "M-2"):
        config = configuration(tmp_path / meter_id, meter_id)
        assert typed("enroll", str(tmp_path / "lab"), "--config", str(config)) == 0
    capsys.readouterr()
    return Lab.open(tmp_path / "lab")


def test_a_laboratory_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["init", str(tmp_path / "lab"), "--utility", "tepco", "--host", "broker.local"]
    assert typed(*words) == 0
    assert f"mosquitto -c {tmp_path}/lab/broker/mosquitto.conf" in capsys.readouterr().out
    assert Lab.open(tmp_path / "lab").broker_url == "mqtts://broker.local:8883"
    with pytest.raises(UsageError, match="there is something already"):
        typed(*words)
    with pytest.raises(UsageError, match="--broker-port: 0 is no port"):
        typed("init", str(tmp_path / "another"), "--broker-port", "0")
    assert not (tmp_path / "another").exists()


def test_a_meter_on_this_machine_is_enrolled_by_its_configuration(
    tmp_path: Path, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path / "M-3", "M-3")
    assert typed("enroll", str(lab.path), "--config", str(config)) == 0
    out = capsys.readouterr().out
    own = identity(tmp_path / "M-3").public
    assert own.fingerprint() in out
    assert lab.meter_keys("M-3") == own
    config.write_text(config.read_text() + out)
    from meter_runtime import config as configurations

    section = configurations.load(config).aroute
    assert section.url == lab.broker_url
    assert section.trust == lab.meter("M-3").trust


def test_a_meter_elsewhere_is_enrolled_by_the_document_it_shows(
    tmp_path: Path, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path / "pi", "M-9")
    assert typed("show", "--config", str(config), "--json") == 0
    document = tmp_path / "M-9.json"
    document.write_text(capsys.readouterr().out)
    words = ["enroll", str(lab.path), "--identity", str(document), "--meter"]
    with pytest.raises(UsageError, match='the identity of "M-9", not of "M-8"'):
        typed(*words, "M-8")
    assert typed(*words, "M-9") == 0
    assert lab.meter_keys("M-9") == identity(tmp_path / "pi").public
    with pytest.raises(UsageError, match="M-9 is enrolled already"):
        typed(*words, "M-9")


def test_what_is_shown_is_fingerprints_and_dates(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("show", str(lab.path)) == 0
    table = capsys.readouterr().out
    assert typed("show", str(lab.path), "--json") == 0
    text = capsys.readouterr().out
    document = json.loads(text)
    assert set(document["meters"]) == {"M-1", "M-2"}
    assert all(
        re.fullmatch(r"20\d\d-\d\d-\d\d", each["expires"])
        for each in document["certificates"].values()
    )
    for name, fingerprint in document["meters"].items():
        assert re.search(rf"{name} +{fingerprint}", table)
    for file in lab.path.rglob("*.key"):
        for line in file.read_text().splitlines()[1:-1]:
            assert line not in table + text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show"], "name a laboratory or --config"),
        (["enroll", "LAB"], "--config FILE or --identity FILE"),
        (["rotate", "LAB"], "--by NAME is missing"),
        (["rotate", "LAB", "--finish"], "no rotation of new-system's key"),
        (["rotate", "LAB", "--leave", "M-1", "--status"], "--leave goes with --finish"),
        (["terminal", "LAB", "Van 7"], "cannot be a terminal"),
        (["terminal", "LAB", "scs"], "cannot be a terminal"),
    ],
)
def test_wrong_use_is_told(lab: Lab, words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        typed(*(str(lab.path) if word == "LAB" else word for word in words))


class Meters:
    """Answers the control side's commands as meters would, each by the key it knows."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._identities = {each: identity(folder / each) for each in lab.meters()}
        self.known = {each: lab.issuer_key(SCS, each).public for each in lab.meters()}
        self.store = ScsStore(lab.folder(SCS) / "scs.db")

    def answer(self, meter_id: str) -> Code:
        """Obey the last command to this meter and tell it to the store."""
        task = next(each for each in self.store.own(100) if each.meter_id == meter_id)
        return self.tell(task, self.obey(task))

    def obey(self, task: Task) -> Code:
        try:
            body = unseal(task.envelope, self._identities[task.meter_id])
            command = verify(body, self.known[task.meter_id])
        except MeterError:
            return Code.REJECTED
        self.known[task.meter_id] = command.arguments["public_key"]
        return Code.OK

    def tell(self, task: Task, code: Code) -> Code:
        result = Result(
            meter_id=task.meter_id,
            command_id=task.command_id,
            counter=1,
            code=code,
            credential_version=0,
            proof=None,
            applied_at=None,
            clock_trust="synced",
            diagnosis=None,
            details={},
            answer_to=bytes(16),
        )
        message = results.sign(result, self._identities[task.meter_id])
        self.store.record(result, message, 0)
        return code


@pytest.fixture
def meters(lab: Lab, tmp_path: Path) -> Meters:
    return Meters(lab, tmp_path)


def rotate(lab: Lab, *words: str) -> int:
    return typed("rotate", str(lab.path), "--issuer", SCS, *words)


def test_a_key_is_changed_meter_by_meter_and_then_for_good(
    lab: Lab, meters: Meters, capsys: pytest.CaptureFixture[str]
) -> None:
    old = lab.issuer_key(SCS, "M-1").public
    rotate(lab, "--by", "sato")
    assert "0 of 2 meters" in capsys.readouterr().out
    assert meters.answer("M-1") is Code.OK
    rotate(lab, "--by", "sato")
    assert "1 of 2 meters" in capsys.readouterr().out
    assert lab.issuer_key(SCS, "M-1").public == meters.known["M-1"] != old
    assert lab.issuer_key(SCS, "M-2").public == old
    with pytest.raises(MeterError, match="not confirmed yet: M-2"):
        rotate(lab, "--finish")
    assert meters.answer("M-2") is Code.OK
    rotate(lab, "--by", "sato")
    rotate(lab, "--finish")
    for meter_id in lab.meters():
        assert lab.issuer_key(SCS, meter_id).public == meters.known[meter_id]
        assert meters.known[meter_id].hex() in lab.meter(meter_id).trust.read_text()
    assert old.hex() not in lab.trust_file.read_text()
    assert rotate(lab, "--status") == 0
    assert capsys.readouterr().out.endswith("no rotation is under way\n")


def test_a_meter_whose_answer_was_lost_is_found_out_by_asking(lab: Lab, meters: Meters) -> None:
    rotate(lab, "--by", "sato")
    task = next(each for each in meters.store.own(10) if each.meter_id == "M-1")
    assert meters.obey(task) is Code.OK
    # What the meter said is lost, and asked again it no longer knows the key.
    meters.tell(task, Code.REJECTED)
    rotate(lab, "--by", "sato")
    assert lab.issuer_key(SCS, "M-1").public == meters.known["M-1"]
    assert meters.answer("M-1") is Code.OK
    assert meters.answer("M-2") is Code.OK
    rotate(lab, "--by", "sato")
    assert rotate(lab, "--finish") == 0


def test_a_meter_that_was_away_all_the_time_takes_the_key_from_its_trust_file(
    lab: Lab, meters: Meters, capsys: pytest.CaptureFixture[str]
) -> None:
    rotate(lab, "--by", "sato")
    assert meters.answer("M-1") is Code.OK
    rotate(lab, "--by", "sato")
    capsys.readouterr()
    rotate(lab, "--finish", "--leave", "M-2")
    assert f"M-2: give it {lab.meter('M-2').trust}" in capsys.readouterr().out
    new = lab.issuer_key(SCS, "M-2").public
    assert new == meters.known["M-1"] != meters.known["M-2"]
    assert new.hex() in lab.meter("M-2").trust.read_text()
