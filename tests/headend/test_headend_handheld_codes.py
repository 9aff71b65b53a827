"""Work orders as codes: whole again from any order of parts, and worthless to anybody else."""

import io
import re
import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from meter_runtime.aroute.cose import NotAuthenticError
from meter_runtime.aroute.envelope import MAX_ENVELOPE_BYTES, Command, seal, unseal, verify
from meter_runtime.aroute.identity import MeterIdentity, SigningKey
from meter_runtime.aroute.results import proof_of
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import qr_codes
from meter_runtime.headend.qr_codes import MAX_SETS, PART_BYTES, Gathering, MisreadError
from meter_runtime.headend.work_order import WorkOrder, rendered
from meter_runtime.secret import Secret

METER = MeterIdentity.from_device_key(bytes(range(32)))
ANOTHER = MeterIdentity.from_device_key(bytes(32))
ISSUER = SigningKey.generate()
PASSWORD = "Q7XK2M9RTB4C"
ROUTE_B_ID = "00112233445566778899AABBCCDDEEFF"
PROOF_KEY = secrets.token_bytes(16)
COMMAND = Command(
    name="broute.set_credentials",
    meter_id="M-0001",
    command_id=bytes(range(16)),
    issuer="new-system",
    counter=7,
    not_before=0,
    expiry=2**31,
    arguments={
        "id": ROUTE_B_ID,
        "password": PASSWORD,
        "accepted_on": "2026-11-01",
        "proof_key": PROOF_KEY,
    },
    reason="customer moved",
)
ENVELOPE = seal(COMMAND, ISSUER, METER.public.sealing)

contents = st.binary(min_size=1, max_size=MAX_ENVELOPE_BYTES)


def gathered(*texts: str) -> Gathering:
    gathering = Gathering()
    for text in texts:
        gathering.take(text)
    return gathering


@given(contents, st.randoms(use_true_random=False), st.booleans())
def test_parts_make_a_whole_in_any_order_and_however_often(
    content: bytes, rng: object, lower: bool
) -> None:
    parts = list(qr_codes.split(content)) * 2
    rng.shuffle(parts)  # type: ignore[attr-defined]
    # As a scanner types: line ends of its own, blanks, and perhaps another case.
    typed = "\r\n".join(f"  {part.lower() if lower else part} " for part in parts)
    gathering = gathered(typed)
    assert gathering.whole == [content]
    assert gathering.missing == []


@given(contents)
def test_every_part_fits_a_code_and_takes_the_compact_mode(content: bytes) -> None:
    import segno

    for part in qr_codes.split(content):
        assert len(part) <= 17 + 820 + 9
        code = segno.make_qr(part, error="m", boost_error=False)
        assert code.mode == "alphanumeric"
        assert int(code.version) <= 19


def test_an_ordinary_order_is_one_code() -> None:
    assert len(ENVELOPE) <= PART_BYTES
    assert len(qr_codes.split(ENVELOPE)) == 1


@pytest.mark.parametrize("size", [0, PART_BYTES * qr_codes.MAX_PARTS + 1])
def test_nothing_and_too_much_are_not_split(size: int) -> None:
    with pytest.raises(ValueError, match="do not go"):
        qr_codes.split(bytes(size))


def test_what_is_missing_is_named() -> None:
    parts = qr_codes.split(secrets.token_bytes(3000))
    gathering = gathered(parts[0], parts[3], parts[5])
    assert gathering.whole == []
    (told,) = gathering.missing
    assert told.endswith(": part 2, 3, 5 of 6 is missing")
    assert told.startswith(parts[0].split("-")[1])


@given(contents, st.data())
def test_a_part_that_was_misread_is_never_taken(content: bytes, data: st.DataObject) -> None:
    part = qr_codes.split(content)[0]
    at = data.draw(st.integers(5, len(part) - 1))
    wrong = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789- "))
    if part[at] == wrong:
        return
    gathering = Gathering()
    with pytest.raises(MisreadError):
        gathering.take(part[:at] + wrong + part[at + 1 :])
    assert gathering.whole == []


@given(contents, st.data())
def test_a_part_that_was_cut_short_is_never_taken(content: bytes, data: st.DataObject) -> None:
    part = qr_codes.split(content)[0]
    end = data.draw(st.integers(5, len(part) - 1))
    with pytest.raises(MisreadError):
        Gathering().take(part[:end])


@given(st.text(max_size=200))
def test_other_lines_are_passed_over(text: str) -> None:
    if "MRW1-" not in text.upper():
        assert Gathering().take(text) == 0


def test_parts_of_two_wholes_with_one_name_are_told_apart() -> None:
    """Made to collide in the name's 40 bits: nobody can, so it is done by hand."""
    content = secrets.token_bytes(600)
    good = qr_codes.split(content)
    forged = qr_codes.split(secrets.token_bytes(600))[1].split("-")
    line = "-".join(["MRW1", good[0].split("-")[1], *forged[2:5]])
    gathering = gathered(good[0], f"{line}-{qr_codes._sum_of(line)}")
    assert gathering.whole == []
    assert "do not belong together" in gathering.missing[0]
    gathering.take(good[1])
    assert gathering.whole == [content]


def test_many_orders_at_once_are_bounded() -> None:
    gathering = Gathering()
    for number in range(MAX_SETS):
        gathering.take(qr_codes.split(bytes([number]))[0])
    with pytest.raises(MisreadError, match="read fewer"):
        gathering.take(qr_codes.split(b"one more")[0])


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1, 477, 513, 3072]), st.integers(-20, 20))
def test_a_crooked_photograph_is_read(size: int, angle: int) -> None:
    content = secrets.token_bytes(size)
    sheet = qr_codes.picture(qr_codes.split(content))
    photo = sheet.rotate(angle, expand=True, fillcolor=255, resample=Image.Resampling.BICUBIC)
    assert read_back(photo) == content


def read_back(photo: Image.Image) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        photo.save(path, quality=85)
        (whole,) = gathered(qr_codes.lines_in(path)).whole
        return whole


def test_the_screen_shows_a_code_that_can_be_photographed() -> None:
    (part,) = qr_codes.split(ENVELOPE)
    lines = qr_codes.blocks(part).splitlines()
    light = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    screen = Image.new("L", (len(lines[0]), 2 * len(lines)))
    for y, line in enumerate(lines):
        for x, sign in enumerate(line):
            for below in (0, 1):
                screen.putpixel((x, 2 * y + below), light[sign][below])
    big = screen.resize((8 * screen.width, 8 * screen.height), Image.Resampling.NEAREST)
    assert read_back(big) == ENVELOPE


def printed(parts: tuple[str, ...], address: str = "1-2-3 Nakanoshima, Osaka") -> WorkOrder:
    return WorkOrder(
        COMMAND.command_id.hex(),
        COMMAND.name,
        COMMAND.meter_id,
        "SP-1",
        address,
        COMMAND.expiry,
        "Mori Aoi",
        "customer moved",
        parts,
    )


def images_in(document: bytes) -> Iterator[bytes]:
    """The pictures of a PDF, as PNG: its streams are PNG's own."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        end = zlib.crc32(kind + content)
        return len(content).to_bytes(4, "big") + kind + content + end.to_bytes(4, "big")

    for found in re.finditer(
        rb"/Height (\d+)\n/Length (\d+)\n/Subtype /Image\n/Type /XObject\n/Width (\d+)"
        rb"\n>>\nstream\n",
        document,
    ):
        height, length, width = map(int, found.groups())
        size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        content = document[found.end() : found.end() + length]
        header = chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))
        yield b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [477, 3072])
def test_the_codes_of_a_pdf_are_read(tmp_path: Path, size: int) -> None:
    content = secrets.token_bytes(size)
    gathering = Gathering()
    for number, image in enumerate(images_in(rendered(printed(qr_codes.split(content)), ".pdf"))):
        path = tmp_path / f"{number}.png"
        path.write_bytes(image)
        assert gathering.take(qr_codes.lines_in(path)) == 1
    assert gathering.whole == [content]


def test_a_japanese_address_takes_a_font_in_a_pdf_and_none_elsewhere() -> None:
    order = printed(qr_codes.split(ENVELOPE), "大阪市北区中之島")
    with pytest.raises(UsageError, match="add --font"):
        rendered(order, ".pdf")
    assert "大阪市北区中之島".encode() in rendered(order, ".txt")


def test_a_photograph_of_the_code_decodes_to_nothing_without_the_meters_key(
    tmp_path: Path,
) -> None:
    photo = tmp_path / "order.png"
    order = printed(qr_codes.split(ENVELOPE))
    photo.write_bytes(rendered(order, ".png"))
    (decoded,) = gathered(qr_codes.lines_in(photo)).whole
    assert decoded == ENVELOPE

    link = LinkCredentials(ROUTE_B_ID, Secret(PASSWORD))
    secret = {
        "password": PASSWORD.encode(),
        "ID": ROUTE_B_ID.encode(),
        "ID, raw": bytes.fromhex(ROUTE_B_ID),
        "proof key": PROOF_KEY,
        "proof": proof_of(PROOF_KEY, link),
        "day": b"2026-11-01",
        "reason": b"customer moved",
        "issuer": b"new-system",
    }
    everything = decoded + photo.read_bytes() + "".join(order.parts).encode()
    for name, value in secret.items():
        for form in (value, value.lower(), value.hex().encode(), value[::-1]):
            assert form not in everything, name

    with pytest.raises(NotAuthenticError):
        unseal(decoded, ANOTHER)
    # The same key opens it, so the test above could fail.
    assert verify(unseal(decoded, METER), ISSUER.public).arguments["password"] == PASSWORD


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", b"not a picture", UsageError),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(20), MeterError),
        ("a.jpg", b"\xff\xd8\xff", MeterError),
        ("a.txt", b"\xff\xfe\xfd", UsageError),
        ("a.txt", b"x" * 2_000_000, UsageError),
    ],
)
def test_what_is_no_picture_and_no_text_is_one_line(
    tmp_path: Path, name: str, content: bytes, kind: type[Exception]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(kind, match=str(path)) as wrong:
        qr_codes.lines_in(path)
    assert "\n" not in str(wrong.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for name in ("a.png", "a.txt"):
        with pytest.raises(MeterError, match="No such file"):
            qr_codes.lines_in(tmp_path / name)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    content = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, format="PNG")
    path.write_bytes(content.getvalue())
    with pytest.raises(UsageError, match="not a picture that can be read"):
        qr_codes.lines_in(path)
