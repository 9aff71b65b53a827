"""Letters: once, after the meter's proof, and nothing left behind."""

import re
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from new_system_room import ACCEPTED, HARA, ITO, METER, MORI, NOW, Room

from meter_runtime.aroute.commands import Code
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.authority import NotPermittedError
from meter_runtime.headend.register_contracts import ContractRecord, Credentials
from meter_runtime.headend.register_requests import State


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def page_of(pdf: bytes) -> str:
    """The text drawn on the page of a PDF whose fonts are PDF's own."""
    streams = re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL)
    drawn = b"".join(zlib.decompress(each) for each in streams if each[:1] == b"\x78")
    return " ".join(re.findall(r"\((.*?)(?<!\\)\) Tj", drawn.decode("latin-1")))


def latin_font() -> Path:
    """A TrueType font with Latin, Greek and Cyrillic letters."""
    for folder in ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/TTF"):
        font = Path(folder, "DejaVuSans.ttf")
        if font.exists():
            return font
    pytest.skip("takes the font DejaVuSans.ttf")


async def test_a_letter_says_what_the_meter_proved(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    letter = tmp_path / "letter.txt"
    posted = room.system.letters.post(NOW, MORI, request.id[:8], letter)
    assert posted.state is State.POSTED
    text = letter.read_text(encoding="utf-8")
    assert room.meter.link is not None
    route_b_id, password = room.meter.link.route_b_id, room.meter.link.password.reveal()
    assert " ".join(re.findall("....", route_b_id)) in text
    assert " ".join(re.findall("....", password)) in text
    digits = "".join("^" if each.isdigit() else "-" for each in password)
    assert " ".join(re.findall("....", digits)) in text
    assert max(map(len, text.splitlines())) < 80
    for said in ("Sato Hana", "1-2-3 Nakanoshima, Osaka", METER, "2026-11-01"):
        assert said in text
    assert letter.stat().st_mode & 0o777 == 0o600
    assert room.system.register.meter(METER).credentials is Credentials.POSTED


async def test_a_pdf_says_the_same_on_one_page(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    letter = tmp_path / "letter.pdf"
    room.system.letters.post(NOW, MORI, request.id, letter)
    content = letter.read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") == 1
    page = page_of(content)
    assert room.meter.link is not None
    assert " ".join(re.findall("....", room.meter.link.password.reveal())) in page
    assert "Sato Hana" in page
    assert letter.stat().st_mode & 0o777 == 0o600


async def test_there_is_no_letter_before_the_meters_ok(room: Room, tmp_path: Path) -> None:
    request = await room.issue()
    letter = tmp_path / "letter.txt"
    with pytest.raises(MeterError, match="is sent: a letter is written only after the meter"):
        room.system.letters.post(NOW, MORI, request.id, letter)
    assert not letter.exists()


async def test_there_is_no_letter_without_the_proof(room: Room, tmp_path: Path) -> None:
    request = await room.issue()
    command = room.meter.read(request.envelope)
    room.relay.results[request.id] = room.meter.answer(command, proof=bytes(16))
    await room.poll(request)
    with pytest.raises(MeterError, match=r"is unproven: .* proves another password"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")


async def test_a_letter_is_written_once_and_its_draft_destroyed(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    assert request.draft is not None
    kept = b"".join(file.read_bytes() for file in room.folder.iterdir() if file.is_file())
    assert request.draft in kept
    room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")
    left = b"".join(file.read_bytes() for file in room.folder.iterdir() if file.is_file())
    assert request.draft[32:64] not in left
    with pytest.raises(MeterError, match="its letter was written and the draft destroyed"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "again.txt")
    room.restart()
    with pytest.raises(MeterError, match="draft destroyed"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "again.txt")


async def test_nothing_is_lost_when_the_file_cannot_be_written(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    taken = tmp_path / "letter.txt"
    taken.write_text("another's")
    with pytest.raises(UsageError, match="there is a file already"):
        room.system.letters.post(NOW, MORI, request.id, taken)
    with pytest.raises(MeterError, match="cannot be written"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "none" / "letter.txt")
    with pytest.raises(UsageError, match=r"a letter is a \.pdf or a \.txt file"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.doc")
    assert taken.read_text() == "another's"
    room.system.letters.post(NOW, MORI, request.id, tmp_path / "other.txt")


async def test_letters_are_posted_by_b_route_staff_only(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    for name in (HARA, ITO, "Abe"):
        with pytest.raises(NotPermittedError, match='takes the role "broute"'):
            room.system.letters.post(NOW, name, request.id, tmp_path / "letter.txt")
    assert not (tmp_path / "letter.txt").exists()
    *_, last = room.system.audit.entries()
    assert (last.what, last.on_behalf_of) == ("refused", "Abe")


async def test_a_password_that_may_be_out_of_use_is_not_posted(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    later = await room.issue("broute.rewrite_password")
    with pytest.raises(MeterError, match=rf"broute\.rewrite_password {later.id[:8]} came after"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")
    command = room.meter.read(later.envelope)
    room.relay.results[later.id] = room.meter.answer(command, code=Code.BUSY)
    await room.poll(later)
    room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")


async def test_nothing_is_posted_to_a_customer_who_left(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    room.system.register.end_contract(NOW, HARA, "C-1001")
    with pytest.raises(MeterError, match="C-1001: no longer in force"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")


async def test_a_command_without_a_password_has_no_letter(room: Room, tmp_path: Path) -> None:
    request = await room.settled("broute.status")
    with pytest.raises(UsageError, match=r"broute\.status brings no letter"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")


async def test_letters_need_the_letter_key_and_issuing_does_not(room: Room, tmp_path: Path) -> None:
    key = room.folder / "letter.key"
    elsewhere = tmp_path / "letter.key"
    key.rename(elsewhere)
    room.restart()
    request = await room.settled()
    assert not key.exists()
    with pytest.raises(MeterError, match=r"letter\.key: no letter key"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")
    elsewhere.rename(key)
    room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")


def test_a_letter_key_half_made_is_finished(room: Room) -> None:
    public = (room.folder / "letter.pub").read_bytes()
    (room.folder / "letter.pub").unlink()
    room.restart()
    assert (room.folder / "letter.pub").read_bytes() == public


async def test_a_draft_opens_for_its_own_request_only(room: Room, tmp_path: Path) -> None:
    first = await room.settled()
    second = await room.settled("broute.rewrite_password")
    room.system.close()
    with sqlite3.connect(room.folder / "new-system.db") as database:
        database.execute("UPDATE request SET draft = ? WHERE id = ?", (first.draft, second.id))
    database.close()
    room.system = room.open()
    with pytest.raises(MeterError, match="sealed to another letter key"):
        room.system.letters.post(NOW, MORI, second.id, tmp_path / "letter.txt")


async def test_a_name_in_japanese_takes_a_font_or_a_text_file(room: Room, tmp_path: Path) -> None:
    register = room.system.register
    register.end_contract(NOW, HARA, "C-1001")
    register.add_contract(
        NOW, HARA, ContractRecord("C-1002", "佐藤花子", "SP-1", accepted_on=ACCEPTED)
    )
    request = await room.settled()
    with pytest.raises(UsageError, match=r"add --font FILE\.ttf or write a \.txt file"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.pdf")
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    with pytest.raises(UsageError, match="not a TrueType or OpenType font"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.pdf", broken)
    with pytest.raises(UsageError, match="has no 佐 藤 花 子; take a font for Japanese"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.pdf", latin_font())
    room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")
    assert "佐藤花子" in (tmp_path / "letter.txt").read_text(encoding="utf-8")


async def test_a_font_prints_names_that_pdfs_own_fonts_cannot(room: Room, tmp_path: Path) -> None:
    register = room.system.register
    register.end_contract(NOW, HARA, "C-1001")
    register.add_contract(
        NOW, HARA, ContractRecord("C-1002", "Ковалёва", "SP-1", accepted_on=ACCEPTED)
    )
    request = await room.settled()
    letter = tmp_path / "letter.pdf"
    room.system.letters.post(NOW, MORI, request.id, letter, latin_font())
    assert letter.read_bytes().startswith(b"%PDF-")
