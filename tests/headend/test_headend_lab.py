"""A laboratory: its files, whom they name, and what its broker lets whom say and hear."""

import asyncio
import json
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from headend_room import METER, bearer_of, broker, identity_of, make_lab, running

from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.identity import SigningKey
from meter_runtime.aroute.messages import Topics
from meter_runtime.aroute.trust import load_trust
from meter_runtime.comm.mqtt import MqttBearer, TlsFiles
from meter_runtime.errors import UsageError
from meter_runtime.headend import rotation
from meter_runtime.headend.certificates import AUTHORITY_LIFE, facts
from meter_runtime.headend.lab import ISSUERS, NEW_SYSTEM, ROLES, SCS, Lab
from meter_runtime.headend.meter_files import read_identity
from meter_runtime.headend.rotation import Answer


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path)


def test_every_file_is_its_owners_alone(lab: Lab) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in lab.path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in lab.path.rglob("*") if path.is_dir()}
    assert folders | {stat.S_IMODE(lab.path.stat().st_mode)} == {0o700}


def test_a_laboratory_is_never_made_over_another(lab: Lab) -> None:
    before = {path: path.read_bytes() for path in lab.path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="there is something already"):
        Lab.create(lab.path)
    with pytest.raises(UsageError, match=f"{METER} is enrolled already"):
        lab.enroll(METER, identity_of("another").public)
    with pytest.raises(UsageError, match="is a terminal already"):
        lab.add_terminal("terminal-1")
    assert {path: path.read_bytes() for path in lab.path.rglob("*") if path.is_file()} == before


def test_what_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: SigningKey, path: Path) -> None:
        raise UsageError("no")

    monkeypatch.setattr(SigningKey, "to_file", fail)
    with pytest.raises(UsageError, match="no"):
        Lab.create(tmp_path / "lab")
    assert list(tmp_path.iterdir()) == []


def test_a_laboratory_is_found_again_as_it_was_made(tmp_path: Path) -> None:
    made = Lab.create(tmp_path / "lab", utility="tepco", broker_host="fe80::1", relay_host="relay")
    found = Lab.open(tmp_path / "lab")
    assert (found.utility, found.broker_url) == ("tepco", "mqtts://[fe80::1]:8883")
    assert found.relay == made.relay
    assert found.relay.host == "relay"


@pytest.mark.parametrize("utility", ["", "a/b", "#", "$SYS"])
def test_a_utility_that_is_no_topic_is_refused(tmp_path: Path, utility: str) -> None:
    with pytest.raises(UsageError, match="MQTT topic"):
        Lab.create(tmp_path / "lab", utility=utility)


def test_no_laboratory_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="make one with 'meter-runtime keys init'"):
        Lab.open(tmp_path)


def test_certificates_say_who_and_which_side_and_end_with_the_authority(lab: Lab) -> None:
    authority = x509.load_pem_x509_certificate(lab.ca.read_bytes())
    files = {role: lab.tls(role).certificate for role in ROLES}
    files[METER] = lab.meter(METER).tls.certificate
    files["terminal-1"] = lab.tls("terminals/terminal-1").certificate
    units = {}
    for name, file in files.items():
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        certificate.verify_directly_issued_by(authority)
        known = facts(file)
        units[known.name] = known.unit
        assert known.name == name
        assert known.expires == authority.not_valid_after_utc
    assert units == {
        "new-system": "business",
        "scs": "control",
        "mdms": "control",
        "relay": "server",
        METER: "meter",
        "terminal-1": "terminal",
    }
    assert abs(authority.not_valid_after_utc - datetime.now(UTC) - AUTHORITY_LIFE).seconds < 60


def test_a_meter_trusts_each_issuer_for_its_own_commands(lab: Lab) -> None:
    trust = load_trust(lab.meter(METER).trust)
    assert {name: issuer.commands for name, issuer in trust.issuers.items()} == ISSUERS
    assert trust.permits(NEW_SYSTEM, "broute.rewrite_password")
    assert not trust.permits(SCS, "broute.rewrite_password")
    assert not trust.permits(NEW_SYSTEM, "switch.open")
    assert trust.carrier(SCS, Way.CONTROL) is not None
    assert trust.carrier(SCS, Way.TERMINAL) is None
    assert trust.carrier("terminal-1", Way.TERMINAL) is not None
    keys = {issuer.public_key for issuer in trust.issuers.values()}
    keys |= {carrier.public_key for carrier in trust.carriers.values()}
    assert len(keys) == 4


def test_a_new_terminal_stands_in_every_trust_file(lab: Lab) -> None:
    lab.add_terminal("van-7")
    for file in (lab.trust_file, lab.meter(METER).trust):
        carrier = load_trust(file).carrier("van-7", Way.TERMINAL)
        assert carrier is not None
        assert carrier.public_key == lab.signing_key("terminals/van-7").public


def test_a_meter_knows_a_bounded_number_of_terminals(lab: Lab) -> None:
    for number in range(2, 8):
        lab.add_terminal(f"terminal-{number}")
    with pytest.raises(UsageError, match="at most 7 terminals"):
        lab.add_terminal("terminal-8")
    load_trust(lab.trust_file)


@pytest.mark.parametrize("meter_id", ["", "../up", ".hidden", "a/b", "a b", "x" * 65, "+", "scs"])
def test_a_meter_with_a_name_that_is_none_or_a_role_is_refused(lab: Lab, meter_id: str) -> None:
    with pytest.raises(UsageError):
        lab.enroll(meter_id, identity_of("x").public)
    assert lab.meters() == (METER,)


def test_a_name_that_is_a_terminals_is_no_meters_and_the_other_way_round(lab: Lab) -> None:
    with pytest.raises(UsageError, match="is the name of a role"):
        lab.enroll("terminal-1", identity_of("x").public)
    lab.enroll("m-2", identity_of("m-2").public)
    with pytest.raises(UsageError, match="is an enrolled meter"):
        lab.add_terminal("m-2")


def test_what_was_enrolled_is_what_commands_are_sealed_to(lab: Lab, tmp_path: Path) -> None:
    assert lab.meter_keys(METER) == identity_of(METER).public
    assert read_identity(lab.meter(METER).path / "identity.json")[0] == METER
    with pytest.raises(UsageError, match=f'did you mean "{METER}"'):
        lab.meter_keys("M-001")
    bad = tmp_path / "bad.json"
    for content in ("", "{}", json.dumps({"meter_id": "x", "keys": {"sealing": "zz"}})):
        bad.write_text(content)
        with pytest.raises(UsageError, match="not a meter's identity"):
            read_identity(bad)


def test_an_unknown_role_names_the_nearest(lab: Lab) -> None:
    with pytest.raises(UsageError, match='did you mean "new-system"'):
        lab.tls("new-sytem")


def test_during_a_rotation_each_meter_is_commanded_by_the_key_it_knows(lab: Lab) -> None:
    lab.enroll("M-0002", identity_of("M-0002").public)
    file = lab.issuer_key_file(NEW_SYSTEM)
    old = lab.signing_key(NEW_SYSTEM).public
    state = rotation.begin(file)
    new = state.new_public
    assert new != old
    state.asked(METER, "r1").answered(METER, Answer.OK)
    assert lab.issuer_key(NEW_SYSTEM, METER).public == new
    assert lab.issuer_key(NEW_SYSTEM, "M-0002").public == old
    with pytest.raises(UsageError, match="under way already"):
        rotation.begin(file)


def test_a_meter_that_rejects_one_key_is_asked_by_the_other(lab: Lab) -> None:
    file = lab.issuer_key_file(NEW_SYSTEM)
    state = rotation.begin(file)
    asked = []
    for _ in range(3):
        asked.append(lab.issuer_key(NEW_SYSTEM, METER).public)
        state = state.asked(METER, "r").answered(METER, Answer.REJECTED)
        assert state.step(METER).request is None
    old = lab.signing_key(NEW_SYSTEM).public
    assert asked == [old, state.new_public, old]


def test_a_finished_rotation_survives_being_cut_off_before_its_end(lab: Lab) -> None:
    file = lab.issuer_key_file(NEW_SYSTEM)
    state = rotation.begin(file).answered(METER, Answer.OK)
    new = state.new_public
    state.finish()
    # Cut off here: the trust files are old, and the record is still there.
    again = rotation.under_way(file)
    assert again is not None
    assert again.finished
    assert again.new_public == new == lab.issuer_key(NEW_SYSTEM, METER).public
    again.finish()
    lab.write_trust()
    again.close()
    assert rotation.under_way(file) is None
    issuer = load_trust(lab.meter(METER).trust).issuer(NEW_SYSTEM)
    assert issuer is not None
    assert issuer.public_key == new


async def _greet(port: int, context: ssl.SSLContext) -> None:
    """Say CONNECT and wait for the broker's answer."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        writer.write(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x0a\x00\x04nobo")
        await asyncio.wait_for(reader.readexactly(4), 5)
    finally:
        writer.transport.abort()


async def _connect(bearer: MqttBearer) -> None:
    async with asyncio.timeout(10):
        await bearer.wait_connected()


async def test_a_meter_speaks_and_hears_under_its_own_id_alone(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, meters=(METER, "M-0002"))
    own, other = Topics(lab.utility, METER), Topics(lab.utility, "M-0002")
    every = Topics(lab.utility, "+")
    meter = bearer_of(lab, lab.meter(METER).tls, "m", "ar/v1/#")
    scs = bearer_of(lab, lab.tls(SCS), "s", every.results)
    mdms = bearer_of(lab, lab.tls("mdms"), "d", every.readings, every.commands)
    async with broker(lab), running(meter.run(), scs.run(), mdms.run()):
        for each in (meter, scs, mdms):
            await _connect(each)
        assert not await meter.publish(other.results, b"forged")
        assert not await meter.publish(other.readings, b"forged")
        assert not await meter.publish(own.mark, b"forged")
        assert not await mdms.publish(own.command(b"x"), b"forged")
        assert not await scs.publish(own.mark, b"forged")
        assert await scs.publish(other.command(b"x"), b"another's")
        assert await scs.publish(own.command(b"x"), b"mine")
        assert await mdms.publish(other.mark, b"another's")
        assert await mdms.publish(own.mark, b"my mark")
        assert await meter.publish(own.results, b"told")
        assert await meter.publish(own.readings, b"read")
        async with asyncio.timeout(10):
            heard = {(await meter.receive()).payload for _ in range(2)}
            assert heard == {b"mine", b"my mark"}
            assert (await scs.receive()).payload == b"told"
            assert (await mdms.receive()).payload == b"read"


async def test_the_broker_takes_nobody_without_a_certificate_of_the_laboratory(
    tmp_path: Path,
) -> None:
    lab = make_lab(tmp_path)
    (tmp_path / "other").mkdir()
    foreign = make_lab(tmp_path / "other").meter(METER).tls
    mixed = TlsFiles(lab.ca, foreign.certificate, foreign.key)
    stranger = bearer_of(lab, mixed, "stranger", "ar/v1/#")
    async with broker(lab), running(stranger.run()):
        port = int(lab.broker_url.rpartition(":")[2])
        nobody = ssl.create_default_context(cafile=str(lab.ca))
        with pytest.raises((OSError, EOFError)):
            await _greet(port, nobody)
        await asyncio.sleep(1)
        assert stranger.connections == 0
        assert stranger.counters["attempts_failed"] > 0
