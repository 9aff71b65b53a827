"""The trace: everything once, in order, readable by any program, and no credential in it."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from visitor import visit

from meter_runtime.bench.happenings import Happening
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.tap import FROM_MODULE, TO_MODULE, TappedPort
from meter_runtime.bench.trace import Trace
from meter_runtime.comm.skstack.dialects import DSE, SE
from meter_runtime.errors import MeterError
from meter_runtime.system_clock import SystemClock

PASSWORD = "ABCDEFGHIJ12"
ROUTE_B_ID = "0123456789ABCDEF0123456789ABCDEF"


class Line:
    """A byte port whose far end the test plays."""

    dropped = 0

    def __init__(self) -> None:
        self.to_read: list[bytes] = []
        self.written = b""

    async def read(self) -> bytes:
        return self.to_read.pop(0)

    def write(self, data: bytes) -> None:
        self.written += data

    async def close(self) -> None:
        pass


class Tapped:
    """A tapped port, and what the tap told."""

    def __init__(self) -> None:
        self.line = Line()
        self.told: list[tuple[str, str]] = []
        self.port = TappedPort(
            self.line,
            SE,
            lambda way, line: self.told.append((way, line)),
            lambda: (PASSWORD, ROUTE_B_ID),
        )

    async def from_host(self, data: bytes, size: int = 4096) -> None:
        for at in range(0, len(data), size):
            self.line.to_read.append(data[at : at + size])
            assert await self.port.read() == data[at : at + size]


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_kind(path: Path, kind: str) -> list[dict[str, Any]]:
    return [document for document in documents(path) if document["kind"] == kind]


@pytest.mark.parametrize("size", [1, 3, 4096])
async def test_a_hosts_line_is_told_when_it_is_complete(size: int) -> None:
    tapped = Tapped()
    send = b"SKSENDTO 1 FE80:0000:0000:0000:021D:1290:1234:5678 0E1A 1 0003 "
    await tapped.from_host(b"SKVER\r\n\r\nsksetpwd C " + PASSWORD.encode() + b"\r", size)
    await tapped.from_host(send + b"\r\n\xff" + b"SKINFO\r\n" + b"SKTER", size)
    assert tapped.told == [
        (TO_MODULE, "SKVER"),
        (TO_MODULE, ""),
        (TO_MODULE, "sksetpwd ••••"),
        (TO_MODULE, send.decode() + " 0D0AFF"),
        (TO_MODULE, "SKINFO"),
    ]


async def test_a_modules_line_is_told_when_it_is_complete() -> None:
    tapped = Tapped()
    for octet in b"SKSETRBID " + ROUTE_B_ID.encode() + b"\r\nOK\r\nEVENT 25 \x00\xff\r\nOK":
        tapped.port.write(bytes((octet,)))
    assert [line for way, line in tapped.told if way == FROM_MODULE] == [
        "SKSETRBID ******",
        "OK",
        "EVENT 25 \\x00\\xff",
    ]
    assert tapped.line.written.endswith(b"\r\nOK")


async def test_a_credential_outside_its_command_is_hidden_too() -> None:
    tapped = Tapped()
    tapped.port.write(b"xSETPWD C " + PASSWORD.encode() + b"\r\n")
    await tapped.from_host(b"SKSETPW C " + PASSWORD.encode() + b"\r\n")
    assert tapped.told == [
        (FROM_MODULE, "xSETPWD C ********"),
        (TO_MODULE, "SKSETPW C ********"),
    ]


@given(st.lists(st.binary(max_size=60), max_size=20), st.sampled_from([SE, DSE]))
async def test_a_tap_takes_any_octets_and_passes_them_on(pieces: list[bytes], dialect: Any) -> None:
    line, told = Line(), list[tuple[str, str]]()
    port = TappedPort(
        line, dialect, lambda way, text: told.append((way, text)), lambda: (PASSWORD,)
    )
    for piece in pieces:
        port.write(piece)
        line.to_read.append(piece)
        assert await port.read() == piece
    assert line.written == b"".join(pieces)
    assert all(text.isprintable() for _, text in told)


async def test_a_visit_is_told_from_both_ends_and_by_the_air(tmp_path: Path) -> None:
    path = tmp_path / "room.jsonl"
    start = datetime.fromisoformat("2026-11-22T23:59:00+09:00")
    async with Bench(BenchOptions(trace=path, start=start)) as bench:
        assert await visit(bench, "--reads", "1") == 0
        await bench.advance(90)
        bench.inject("loss", rate=0.5)
        bench.clear()
        password, route_b_id = bench.password, bench.route_b_id
    text = path.read_text()
    assert password not in text
    assert route_b_id not in text
    told = documents(path)
    assert all({"mono", "wall", "kind"} <= document.keys() for document in told)
    # A frame is told with the moment it ended, which may be one before it was told.
    moments = [document["mono"] for document in told if document["kind"] != "frame"]
    assert moments == sorted(moments)
    lines = {
        (document["module"], document["way"], document["line"])
        for document in of_kind(path, "uart")
    }
    assert ("hems0", TO_MODULE, "SKSETPWD ••••") in lines
    assert ("hems0", FROM_MODULE, "OK") in lines
    assert ("meter", TO_MODULE, "SKSTART") in lines
    shown = [f"{d['source']} {d['destination']} {d['shown']}" for d in of_kind(path, "frame")
             if d.get("port") == 3610]  # fmt: skip
    assert "hems0 meter Get E7" in shown
    kinds = [document["kind"] for document in told]
    for kind in ("link-started", "joined", "request", "response", "left", "boundary", "advanced"):
        assert kind in kinds
    assert kinds.index("fault") < kinds.index("clear")
    assert of_kind(path, "boundary")[0]["at"] == "2026-11-23T00:00+09:00"
    assert of_kind(path, "boundary")[0]["wall"].startswith("2026-11-23T00:00:00")


def test_details_never_hide_when_and_what(tmp_path: Path) -> None:
    path = tmp_path / "room.jsonl"
    trace = Trace(path, SystemClock(), {})
    detail: Mapping[str, Any] = {"kind": "else", "mono": "else", "more": Path("x")}
    trace.happened(Happening(1.0, 0.0, "fault", dict(detail)))
    trace.close()
    assert documents(path) == [
        {"mono": 1.0, "wall": "1970-01-01T09:00:00.000+09:00", "kind": "fault", "more": "x"}
    ]


def test_a_trace_ends_at_its_limit_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "room.jsonl"
    trace = Trace(path, SystemClock(), {}, limit=1000)
    for _ in range(100):
        trace.uart("hems0", TO_MODULE, "SKVER")
    trace.close()
    assert 1000 <= path.stat().st_size < 1200
    assert len(documents(path)) > 5
    assert caplog.text.count("the trace ends here") == 1


def test_a_file_that_cannot_be_made_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="cannot be written: Is a directory"):
        Trace(tmp_path, SystemClock(), {})
