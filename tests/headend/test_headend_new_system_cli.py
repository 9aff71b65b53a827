"""``meter-runtime headend`` as the business side's people type it, over the real relay."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headend_room import free_port
from new_system_room import ACCEPTED, METER, Keys

from meter_runtime.cli import headend
from meter_runtime.cli.parser import Parser
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import relay
from meter_runtime.headend.lab import NEW_SYSTEM, RELAY, Lab
from meter_runtime.headend.relay_client import ControlSide
from meter_runtime.headend.relay_spool import Spool

Output = pytest.CaptureFixture[str]
BY_MORI = ("--by", "Mori Aoi")


def command(lab: Lab, *words: str) -> int:
    parser = Parser(prog="meter-runtime")
    headend.register(parser.add_subparsers(parser_class=Parser))
    return headend.run(parser.parse_args(["headend", *words, "--lab", str(lab.path)]))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.create(
        tmp_path / "lab",
        broker_port=free_port(),
        business_port=free_port(),
        control_port=free_port(),
    )


@pytest.fixture
def meter(lab: Lab) -> Keys:
    meter = Keys(METER, lab.signing_key(NEW_SYSTEM).public)
    lab.enroll(METER, meter.identity.public)
    return meter


@pytest.fixture
def furnished(lab: Lab, meter: Keys) -> Lab:
    """The register, filled by commands."""
    for words in (
        ("staff", "add", "Abe", "--role", "administrator"),
        ("staff", "add", "Hara", "--role", "registrar", "--by", "Abe"),
        ("staff", "add", "Mori Aoi", "--role", "broute", "--by", "Abe"),
        ("supply-point", "add", "SP-1", "--address", "1-2-3 Nakanoshima", "--by", "Hara"),
        (
            *("contract", "add", "C-1001", "--customer", "Sato Hana", "--supply-point", "SP-1"),
            *("--capacity", "40", "--accepted", ACCEPTED.isoformat(), "--by", "Hara"),
        ),
        ("meter", "add", METER, "--supply-point", "SP-1", "--by", "Hara"),
    ):
        assert command(lab, *words) == 0
    return lab


@contextlib.contextmanager
def told(capsys: Output) -> Iterator[list[Any]]:
    """What is printed inside the block, as JSON documents."""
    capsys.readouterr()
    documents: list[Any] = []
    yield documents
    documents.append(json.loads(capsys.readouterr().out))


async def obeys(lab: Lab, meter: Keys) -> None:
    """The control side and the meter, for one command."""
    control = ControlSide.of(lab)
    for _ in range(200):
        for request in await control.fetch():
            await control.answer(request.request_id, meter.obey(request.envelope))
            return
        await asyncio.sleep(0.05)


async def test_from_the_first_person_to_the_letter(
    furnished: Lab, meter: Keys, capsys: Output, tmp_path: Path
) -> None:
    lab = furnished
    with contextlib.closing(Spool(lab.folder(RELAY) / "spool.db")) as spool:
        async with relay.serve(lab, spool):
            far_end = asyncio.create_task(obeys(lab, meter))
            with told(capsys) as documents:
                issue = ("issue", "broute.set_credentials", "--meter", METER, *BY_MORI)
                status = await asyncio.to_thread(command, lab, *issue, "--wait", "30", "--json")
            await far_end
    (request,) = documents
    assert status == 0
    assert (request["state"], request["code"]) == ("done", "OK")
    assert request["answer"]["credential_version"] == 1

    letter = tmp_path / "letter.txt"
    assert command(lab, "letter", request["id"][:8], "--out", str(letter), *BY_MORI) == 0
    assert meter.link is not None
    password = meter.link.password.reveal()
    assert password in letter.read_text(encoding="utf-8").replace(" ", "")
    with told(capsys) as documents:
        command(lab, "meter", "list", "--json")
    assert documents[0][0]["credentials"] == "letter posted"
    for showing in ("requests", "audit"):
        assert command(lab, showing) == 0
        assert command(lab, showing, "--json") == 0
    assert command(lab, "audit", "--check") == 0
    said = capsys.readouterr()
    assert password not in said.out + said.err
    assert "none missing" in said.out
    for file in lab.path.rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes(), file


def test_a_relay_that_is_away_is_told_and_the_command_kept(furnished: Lab, capsys: Output) -> None:
    with told(capsys) as documents:
        words = ("issue", "broute.set_credentials", "--meter", METER, *BY_MORI, "--json")
        assert command(furnished, *words) == 1
    (request,) = documents
    assert request["state"] == "prepared"
    assert "cannot be reached; is the relay running?" in request["said"]
    assert command(furnished, "poll") == 1
    with told(capsys) as documents:
        command(furnished, "meter", "list", "--json")
    assert documents[0][0]["credentials"] == "requested"


def test_the_selection_is_told_with_its_reasons(
    furnished: Lab, capsys: Output, tmp_path: Path
) -> None:
    path = tmp_path / "records.csv"
    path.write_text("contract,wiring,site\nC-1001,1P3W,detached\n", encoding="utf-8")
    words = ("import", "construction-records", str(path), "--as-of", "2026-11-01", "--by", "Hara")
    assert command(furnished, *words) == 0
    assert command(furnished, "select", "C-1001") == 0
    said = capsys.readouterr().out
    assert "construction-records: as of 2026-11-01, 1 row" in said
    assert "MU-1P3W-60-1: wiring 1P3W (construction-records, 2026-11-01)" in said
    with told(capsys) as documents:
        command(furnished, "select", "C-1001", "--json")
    assert documents[0]["units"] == {
        "communication": "CU-RF-920-1",
        "metering": "MU-1P3W-60-1",
        "optional": None,
        "cover": "normal",
    }


@pytest.mark.parametrize("name", ["staff", "supply-point", "contract", "meter"])
def test_each_list_is_a_table_and_a_document(furnished: Lab, capsys: Output, name: str) -> None:
    with told(capsys) as documents:
        assert command(furnished, name, "list", "--json") == 0
    assert documents[0]
    assert command(furnished, name, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(documents[0]) + 1


def test_who_looked_at_customers_is_in_the_log(furnished: Lab, capsys: Output) -> None:
    command(furnished, "contract", "list")
    with told(capsys) as documents:
        command(furnished, "audit", "--last", "1", "--json")
    assert documents[0][0]["what"] == "viewed contracts"


def test_a_customer_who_leaves_and_one_who_comes(furnished: Lab, capsys: Output) -> None:
    assert command(furnished, "contract", "end", "C-1001", "--by", "Hara") == 0
    adding = ("contract", "add", "C-1002", "--customer", "Ueda", "--supply-point", "SP-1")
    assert command(furnished, *adding, "--by", "Hara") == 0
    words = ("contract", "apply", "C-1002", "--accepted", "2026-11-20", "--by", "Hara")
    assert command(furnished, *words) == 0
    assert "contract C-1002: B-route from 2026-11-20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("issue", "broute.status", "--meter", METER), "--by"),
        (("issue", "broute.status", "--meter", METER, "--by", "Hara"), 'the role "broute"'),
        (("issue", "broute.status", "--meter", METER, *BY_MORI, "--arg", "x"), "KEY=VALUE"),
        (("issue", "broute.status", "--meter", METER, *BY_MORI, "--arg", "x=1"), "broute.status:"),
        (("issue", "broute.status", "--meter", METER, *BY_MORI, "--expires", "x"), "no duration"),
        (("issue", "broute.status", "--meter", METER, *BY_MORI, "--wait", "-1"), "--wait: 0 to"),
        (("letter", "abcd", "--out", "x.txt", *BY_MORI), "no request's id begins"),
        (("contract", "apply", "C-1001", "--accepted", "yesterday", "--by", "Hara"), "is no day"),
        (("audit", "--last", "0"), "one entry or more"),
        (("select", "C-9"), "no source knows it"),
        (("staff", "add", "Kato", "--role", "boss", "--by", "Abe"), 'no role is called "boss"'),
    ],
)
def test_a_mistake_is_one_line(furnished: Lab, words: tuple[str, ...], said: str) -> None:
    with pytest.raises((UsageError, MeterError)) as refused:
        command(furnished, *words)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        ("staff",),
        ("supply-point",),
        ("contract",),
        ("meter",),
        ("import",),
        ("select",),
        ("issue",),
        ("poll",),
        ("requests",),
        ("letter",),
        ("audit",),
        ("contract", "add"),
        ("contract", "list"),
        ("staff", "add"),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself_with_an_example(
    lab: Lab, capsys: Output, words: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(lab, *words, "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "example:" in said
    assert "meter-runtime headend" in said
    assert "--lab" in said
