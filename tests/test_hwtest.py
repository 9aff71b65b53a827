"""``./dev hwtest`` up to the power switch: what prepares, listens and judges.

No machine is booted here; the guests are other programs.
"""

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtest import __main__ as command
from hwtest.cpio import Archive
from hwtest.guest import outcomes
from hwtest.inside import pc as inside_the_pc
from hwtest.outcome import END, Outcome
from hwtest.packages import require_programs
from hwtest.power_cut_plan import (
    CHECKPOINTED,
    FIRST_SLOT,
    STORED,
    checkpoint,
    open_registers,
    open_ring,
    record,
)
from hwtest.power_cuts import PROMISED, Promise, look, prepared
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.storage.fram import FRAM_SIZE, FramMedia
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH

NEXT = PROMISED.stored + 1
OLDEST = NEXT - LOAD_PROFILE_DEPTH


def chip(content: bytes) -> MemoryMedia:
    media = MemoryMedia(len(content), "the chip", FramMedia.write_unit)
    media.write(0, content)
    return media


def written(content: bytes, *, records: int = 0, checkpoints: int = 0) -> bytes:
    """The chip after so many more records and checkpoints."""
    media = chip(content)
    ring, registers = open_ring(media), open_registers(media)
    newest = ring.newest()
    assert newest is not None
    registers.load()
    for slot in range(newest.slot + 1, newest.slot + 1 + records):
        assert ring.append(slot, record(slot).forward_dwh, record(slot).reverse_dwh)
    for slot in range(PROMISED.checkpointed + 1, PROMISED.checkpointed + 1 + checkpoints):
        registers.save(checkpoint(slot))
    return media.read(0, FRAM_SIZE)


def test_a_chip_that_kept_everything_passes() -> None:
    assert look(prepared(), PROMISED).kept == PROMISED


def test_the_write_under_way_may_be_there_or_not() -> None:
    content = written(prepared(), records=1)
    assert look(content, PROMISED).kept == Promise(NEXT, PROMISED.checkpointed)
    assert look(content, Promise(NEXT, NEXT - 1)).kept == Promise(NEXT, NEXT - 1)
    content = written(content, checkpoints=1)
    assert look(content, Promise(NEXT, NEXT - 1)).kept == Promise(NEXT, NEXT)


def test_what_was_promised_and_is_gone_is_found() -> None:
    with pytest.raises(AssertionError, match="is the newest"):
        look(prepared(), Promise(NEXT, NEXT))
    with pytest.raises(AssertionError, match="the checkpoint is none"):
        look(written(prepared(), records=1), Promise(NEXT, NEXT))


def test_what_was_never_begun_is_found() -> None:
    with pytest.raises(AssertionError, match="is the newest"):
        look(written(prepared(), records=2), PROMISED)
    with pytest.raises(AssertionError, match="is the newest"):
        look(written(prepared(), records=1), Promise(NEXT - 1, NEXT - 2))


def test_a_wrong_value_is_found() -> None:
    media = chip(prepared())
    ring = open_ring(media)
    ring.withdraw([FIRST_SLOT + 5])
    ring.append(FIRST_SLOT + 5, 1, 2)
    with pytest.raises(AssertionError, match="never stored"):
        look(media.read(0, FRAM_SIZE), PROMISED)


def test_a_damaged_record_is_found() -> None:
    content = bytearray(prepared())
    content[5000] ^= 1
    with pytest.raises(AssertionError, match="stored, and gone"):
        look(bytes(content), PROMISED)


def test_a_torn_record_costs_only_the_one_it_replaces() -> None:
    content = prepared()
    overwriting = LOAD_PROFILE_DEPTH - (PROMISED.stored - FIRST_SLOT)
    full = written(content, records=overwriting, checkpoints=overwriting)
    promised = Promise(PROMISED.stored + overwriting, PROMISED.checkpointed + overwriting)
    begun = written(full, records=1)
    changed = [at for at in range(FRAM_SIZE) if full[at] != begun[at]]
    half = changed[len(changed) // 2]
    found = look(begun[:half] + full[half:], promised)
    assert (found.kept, found.damaged) == (promised, 1)


def test_a_promise_follows_what_the_meter_says() -> None:
    promise = PROMISED.after(f"{STORED}\t{NEXT}")
    assert promise == Promise(NEXT, NEXT - 1)
    assert promise.after(f"{CHECKPOINTED}\t{NEXT}") == Promise(NEXT, NEXT)


@given(st.text())
def test_noise_on_the_line_promises_nothing(noise: str) -> None:
    assert PROMISED.after(noise) == PROMISED
    assert PROMISED.after(f"{STORED}\t-{noise}") == PROMISED


@given(st.text("ab c-:", min_size=1), st.booleans(), st.text())
def test_an_outcome_survives_its_line(check: str, passed: bool, text: str) -> None:
    outcome = Outcome(check, passed, " ".join(text.split()))
    assert Outcome.parse(outcome.line()) == outcome


@given(st.text())
def test_any_line_is_an_outcome_or_none(line: str) -> None:
    outcome = Outcome.parse(line)
    assert outcome is None or outcome.line().split("\t")[1] == outcome.check


def machine(*lines: str, then: str = "") -> list[str]:
    """A program that says this on its result port."""
    said = "".join(f"{line}\n" for line in lines)
    return [sys.executable, "-c", f"print({said!r}, end='', flush=True)\n{then}"]


async def test_a_guest_that_says_end_is_believed(tmp_path: Path) -> None:
    told = Outcome("lines", passed=True, text="follow")
    found = await outcomes(machine("noise", told.line(), END), tmp_path, "pc", 30)
    assert found == [told]


async def test_a_guest_that_goes_down_has_failed(tmp_path: Path) -> None:
    told = Outcome("lines", passed=True, text="follow")
    found = await outcomes(machine(told.line()), tmp_path, "pc", 30)
    assert found[0] == told
    assert not found[1].passed
    assert "ended before its last check" in found[1].text


async def test_a_guest_that_hangs_is_ended(tmp_path: Path) -> None:
    hanging = machine(then="import sys; open(sys.argv[1]).read()")
    never = tmp_path / "never"
    os.mkfifo(never)
    found = await outcomes([*hanging, str(never)], tmp_path, "pc", 0.2)
    assert [outcome.passed for outcome in found] == [False]
    assert "not done after" in found[0].text


def test_an_archive_has_directories_before_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("deep/file")
    archive = Archive()
    archive.console()
    archive.file("a/b/program", b"#!", 0o755)
    archive.tree(tmp_path, "a/tree")
    found = unpacked(archive.finished())
    assert list(found) == [
        *("dev", "dev/console", "a", "a/b", "a/b/program"),
        *("a/tree", "a/tree/deep", "a/tree/deep/file", "a/tree/link", "TRAILER!!!"),
    ]
    assert stat.S_ISCHR(found["dev/console"][0])
    assert found["a/b/program"] == (stat.S_IFREG | 0o755, b"#!")
    assert found["a/tree/deep/file"][1] == b"12345"
    assert found["a/tree/link"] == (stat.S_IFLNK | 0o777, b"deep/file")


@given(st.lists(st.tuples(st.text("abc", min_size=1), st.binary(max_size=9)), max_size=9))
def test_every_file_comes_out_of_an_archive(files: list[tuple[str, bytes]]) -> None:
    archive = Archive()
    for name, content in files:
        archive.file(name, content)
    found = unpacked(archive.finished())
    assert {name: found[name][1] for name, _ in files} == dict(files)


def unpacked(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content by name, read by the format's description."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name_at = at + 110
        name = archive[name_at : name_at + name_size - 1].decode()
        content_at = (name_at + name_size + 3) // 4 * 4
        found[name] = (mode, archive[content_at : content_at + size])
        at = (content_at + size + 3) // 4 * 4
    return found


def test_missing_programs_are_asked_for_in_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_apt(program: str) -> str | None:
        return "/usr/bin/apt-get" if program == "apt-get" else None

    monkeypatch.setattr(shutil, "which", only_apt)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MeterError, match=r"sudo apt-get install .*qemu-system-arm"):
        require_programs()


def test_a_part_that_is_not_there_gets_the_nearest() -> None:
    assert command.choose("powercuts,pc") == ["pc", "powercuts"]
    with pytest.raises(UsageError, match='did you mean "sabrelite"'):
        command.choose("sabrelight")
    assert command.main(["--only", "pc", "--cuts", "0"]) == 2


def test_what_failed_is_named_at_the_end() -> None:
    passed, failed = Outcome("a", passed=True, text=""), Outcome("b", passed=False, text="no")
    assert command.summary({"pc": [passed]}) == "1 of 1 checks passed"
    assert command.summary({"pc": [passed, failed]}) == "1 of 2 checks passed; failed: pc: b;"


def test_checks_have_names_of_their_own() -> None:
    names = [check.__name__ for check in inside_the_pc.CHECKS]
    assert len(set(names)) == len(names)
