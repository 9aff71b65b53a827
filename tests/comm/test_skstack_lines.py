"""The codec of both roles: what one side writes the other reads, in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm.skstack.addresses import format_address, link_local, parse_address
from meter_runtime.comm.skstack.commands import (
    MAX_COMMAND_LINE,
    Command,
    CommandReader,
    EmptyLine,
    OverlongLine,
    encode_command,
    encode_send,
    mask_secrets,
)
from meter_runtime.comm.skstack.dialects import DSE, SE, Dialect
from meter_runtime.comm.skstack.replies import (
    MAX_REPLY_LINE,
    EnergyReport,
    Event,
    Fail,
    Info,
    Ok,
    PanDescription,
    RegisterValue,
    Reply,
    ReplyReader,
    RxUdp,
    Text,
    encode_reply,
    parse_reply,
)
from meter_runtime.comm.skstack.trace import MaskedLines, mask_octets

DIALECTS = st.sampled_from((SE, DSE))
ADDRESSES = st.binary(min_size=16, max_size=16).map(format_address)
MACS = st.binary(min_size=8, max_size=8)
OCTET = st.integers(0, 0xFF)
WORD = st.integers(0, 0xFFFF)
HOME = "FE80:0000:0000:0000:C2F9:4500:4058:B5FB"
OWN = "FE80:0000:0000:0000:021D:1290:1234:5678"
MAC = bytes.fromhex("C0F945004058B5FB")


def replies(dialect: Dialect) -> st.SearchStrategy[Reply]:
    side = st.integers(0, 1) if dialect.has_side else st.just(0)
    return st.one_of(
        st.just(Ok()),
        st.builds(Ok, st.sampled_from(("00", "01"))),
        st.builds(Fail, st.sampled_from((4, 5, 6, 9, 10))),
        st.builds(Event, OCTET, ADDRESSES, st.none() | OCTET, side),
        st.builds(
            RxUdp,
            ADDRESSES,
            ADDRESSES,
            WORD,
            WORD,
            MACS,
            st.booleans(),
            st.binary(min_size=1, max_size=64),
            OCTET,
            side,
        ),
        st.builds(Info, ADDRESSES, MACS, OCTET, WORD, st.just(dialect.info_tail)),
        st.builds(RegisterValue, st.sampled_from(("0", "1", "15180", "B5FB"))),
        st.just(Text("EVER 1.2.10")),
        st.builds(
            EnergyReport, st.lists(st.tuples(OCTET, OCTET), min_size=1, max_size=28).map(tuple)
        ),
    )


def pieces(data: bytes, cut: int) -> list[bytes]:
    return [data[at : at + cut] for at in range(0, len(data), cut)]


def read(reader: ReplyReader, data: bytes, cut: int) -> list[Reply]:
    return [reply for piece in pieces(data, cut) for reply in reader.feed(piece)]


@given(st.data(), DIALECTS, st.booleans(), st.booleans(), st.sampled_from((None, True)))
def test_what_a_module_writes_its_host_reads_in_any_pieces(
    data: st.DataObject, dialect: Dialect, hex_data: bool, rssi: bool, told: bool | None
) -> None:
    wanted = data.draw(st.lists(replies(dialect), max_size=8))
    cut = data.draw(st.integers(1, 80))
    wire = b"".join(encode_reply(reply, dialect, hex_data=hex_data, rssi=rssi) for reply in wanted)
    reader = ReplyReader(dialect)
    reader.hex_data = None if told is None else hex_data
    got = read(reader, wire, cut)
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        if isinstance(one, RxUdp) and isinstance(other, RxUdp):
            lqi = other.lqi if dialect.prints_rssi and rssi else None
            assert (one.data, one.source, one.lqi, one.side) == (
                other.data,
                other.source,
                lqi,
                other.side,
            )
        else:
            assert one == other


@pytest.mark.parametrize("cut", [1, 3, 10_000])
@pytest.mark.parametrize("dialect", [SE, DSE])
@pytest.mark.parametrize("pairing_id", [None, "0194BFAD"])
def test_beacons_are_read_with_and_without_their_optional_lines(
    dialect: Dialect, pairing_id: str | None, cut: int
) -> None:
    pan = PanDescription(0x31, 9, 0xB5FB, MAC, 0xDD, pairing_id)
    one: list[Reply] = [Event(0x20, OWN), pan]
    story: list[Reply] = [Ok(), *one, *one, Event(0x22, OWN)]
    wire = b"".join(encode_reply(reply, dialect) for reply in story)
    assert b"EPANDESC\r\n  Channel:31\r\n  Channel Page:09\r\n  Pan ID:B5FB\r\n" in wire
    assert read(ReplyReader(dialect), wire, cut) == story


def test_the_answer_of_an_option_command_ends_in_cr_alone() -> None:
    assert encode_command("ROPT") == b"ROPT\r"
    assert list(ReplyReader(SE).feed(b"ROPT\rOK 01\rOK\r\n")) == [Text("ROPT"), Ok("01"), Ok()]


def test_a_payload_in_raw_form_may_look_like_replies() -> None:
    payload = b"OK\r\nFAIL ER05\r\nERXUDP \r\n"
    sent = RxUdp(HOME, OWN, 0x0E1A, 0x0E1A, MAC, True, payload)
    wire = encode_reply(sent, SE, hex_data=False) + b"OK\r\n"
    for hex_data in (False, None):
        for cut in (1, 1_000):
            reader = ReplyReader(SE)
            reader.hex_data = hex_data
            assert read(reader, wire, cut) == [sent, Ok()]


@pytest.mark.parametrize(
    "damaged",
    [
        "EVENT 25 FE80",
        "EVENT 25 FE80:0000:0000:0000:C2F9:4500:4058:B5F",
        f"EVENT XX {HOME}",
        f"EVENT 21 {HOME} +1",
        f"EVENT 21 {HOME} 1 2 3",
        f"EINFO {HOME} C0F945 21 8888 FFFE",
        f"EINFO FE80 {MAC.hex()} 21 8888 FFFE",
        "ERXUDP",
        f"ERXUDP {HOME} {OWN} 0E1A 0E1A {MAC.hex()} 1 0002 0102FF",
        f"ERXUDP {HOME} {OWN} 0E1A 0E1A {MAC.hex()} 1 0002 01 2",
        f"ERXUDP {HOME} {OWN} 0E1A 0E1A {MAC.hex()} 2 0001 01",
        f"ERXUDP {HOME} xyz 0E1A 0E1A {MAC.hex()} 1 0001 01",
        "FAIL ERxx",
        "OK 1 2",
    ],
)
def test_a_damaged_line_is_text_and_nothing_else(damaged: str) -> None:
    assert list(ReplyReader(SE).feed(damaged.encode() + b"\r\n")) == [Text(damaged)]


@given(DIALECTS, st.lists(st.binary(max_size=200), max_size=20), st.sampled_from((None, False)))
def test_a_reply_reader_survives_garbage_and_finds_its_way_back(
    dialect: Dialect, noise: list[bytes], hex_data: bool | None
) -> None:
    reader = ReplyReader(dialect)
    reader.hex_data = hex_data
    for piece in noise:
        list(reader.feed(piece))
        assert len(reader._line) <= MAX_REPLY_LINE + 1232
    list(reader.feed(b"\r\n" * 700))
    assert list(reader.feed(b"OK\r\n")) == [Ok()]


def test_an_endless_line_costs_no_memory_and_is_counted_once() -> None:
    reader = ReplyReader(SE)
    for _ in range(100):
        assert list(reader.feed(b"E" * 1_000)) == []
        assert len(reader._line) <= MAX_REPLY_LINE
    assert reader.overlong == 1
    assert list(reader.feed(b"\r\nOK\r\n")) == [Ok()]


def test_a_half_read_line_is_forgotten_at_reset() -> None:
    reader = ReplyReader(SE)
    reader.hex_data = False
    head = f"ERXUDP {HOME} {OWN} 0E1A 0E1A {MAC.hex()} 1 0100 abc"
    list(reader.feed(head.encode()))
    reader.reset()
    assert list(reader.feed(b"OK\r\n")) == [Ok()]


@given(st.text(max_size=80), DIALECTS)
def test_any_line_parses_to_something(line: str, dialect: Dialect) -> None:
    parse_reply(line, dialect)


@given(DIALECTS, st.binary(min_size=1, max_size=100), st.integers(1, 120))
def test_a_datagram_for_sending_is_read_back_in_any_pieces(
    dialect: Dialect, payload: bytes, cut: int
) -> None:
    wire = encode_send(dialect, HOME, payload, port=0x0E1A) + b"\r\nSKVER\rSKINFO\r\n"
    reader = CommandReader(dialect)
    got = [item for piece in pieces(wire, cut) for item in reader.feed(piece)]
    side = ("0",) if dialect.has_side else ()
    arguments = ("1", HOME, "0E1A", "1", *side, f"{len(payload):04X}")
    header = " ".join(("SKSENDTO", *arguments, "")).encode()
    assert got == [
        Command("SKSENDTO", arguments, payload, header),
        EmptyLine(),
        Command("SKVER", (), None, b"SKVER"),
        Command("SKINFO", (), None, b"SKINFO"),
    ]


def test_datagrams_outside_the_modules_limits_are_not_encoded() -> None:
    for size in (0, 1233):
        with pytest.raises(ValueError, match="1 to 1232"):
            encode_send(SE, HOME, bytes(size), port=0x0E1A)


@given(DIALECTS, st.lists(st.binary(max_size=400), max_size=12))
def test_a_command_reader_survives_garbage(dialect: Dialect, noise: list[bytes]) -> None:
    reader = CommandReader(dialect)
    for piece in noise:
        list(reader.feed(piece))
        assert len(reader._line) <= MAX_COMMAND_LINE
        assert len(reader._data) <= 1232
    list(reader.feed(b"\r\n" * 700))
    assert list(reader.feed(b"SKVER\r\n")) == [Command("SKVER", (), None, b"SKVER")]


def test_an_overlong_command_is_dropped_up_to_its_end() -> None:
    reader = CommandReader(SE)
    assert list(reader.feed(b"x" * 5_000 + b"\r\nSKVER\r\n")) == [
        OverlongLine(),
        Command("SKVER", (), None, b"SKVER"),
    ]


@given(st.binary(min_size=16, max_size=16))
def test_addresses_are_written_in_full_and_read_back(value: bytes) -> None:
    text = format_address(value)
    assert len(text) == 39
    assert parse_address(text) == parse_address(text.lower()) == value


def test_the_link_local_address_flips_one_bit_of_the_mac() -> None:
    assert link_local(MAC) == HOME
    with pytest.raises(ValueError, match="8 bytes"):
        link_local(b"\x00")


SECRET = "0123456789AB"


@pytest.mark.parametrize("command", ["SKSETPWD C", "SKSETRBID", "SKSETPSK 10", "sksetpwd c"])
def test_credentials_are_masked_in_every_trace(command: str) -> None:
    octets = f"\x00{command} {SECRET}\r\nOK\r\n".encode()
    assert SECRET not in mask_secrets(f"{command} {SECRET}")
    assert SECRET.encode() not in mask_octets(octets)
    assert mask_octets(octets).endswith(b"******\r\nOK\r\n")
    for cut in (1, 5, 1_000):
        lines = MaskedLines()
        shown = [line for piece in pieces(octets, cut) for line in lines.feed(piece)]
        assert not any(SECRET.encode() in line for line in shown)
        assert shown[-1] == b"OK\r"


def test_a_trace_of_an_endless_line_is_bounded() -> None:
    lines = MaskedLines()
    shown = list(lines.feed(b"x" * 10_000))
    assert [len(line) for line in shown] == [MAX_REPLY_LINE] * 3
