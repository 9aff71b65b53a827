"""The register checkpoint against an oracle: the last one saved, or the one before it."""

import math
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.registers import (
    MAX_REGISTER_MWH,
    Checkpoint,
    RegisterStore,
    unit_mark,
)

SIZE = RegisterStore.size_for(1)
mwh = st.integers(0, MAX_REGISTER_MWH)
checkpoints = st.builds(
    Checkpoint,
    mwh,
    mwh,
    mwh,
    mwh,
    st.from_regex(r"[0-9A-Z]{1,12}", fullmatch=True).map(unit_mark),
    st.none() | st.integers(1, 4_000_000_000_000).map(lambda ms: ms / 1000),
)
SOME = Checkpoint(0x010203040506, 2, 3, 4, unit_mark("A1"), 1_790_000_000.125)


def test_a_new_medium_has_no_checkpoint() -> None:
    store = RegisterStore(MemoryMedia(SIZE))
    assert store.load() is None
    assert store.damaged == 0


def test_a_copy_has_forty_eight_bytes() -> None:
    media = MemoryMedia(SIZE)
    RegisterStore(media).save(SOME)
    body = (
        b"RG\x02\x24\x00\x00\x00\x01"
        b"\x01\x02\x03\x04\x05\x06\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x03"
        b"\x00\x00\x00\x00\x00\x04" + (1_790_000_000_125).to_bytes(6, "big") + unit_mark("A1")
    )
    assert SIZE == 96
    assert media.read(48, 48) == body + zlib.crc32(body).to_bytes(4, "big")


def test_a_units_mark_is_six_bytes_of_sha_256() -> None:
    assert unit_mark("SIM-000001").hex() == "883a66e92c94"
    assert len({unit_mark(f"SIM-{n:06}") for n in range(10_000)}) == 10_000


@given(st.lists(checkpoints, min_size=1, max_size=5))
def test_the_last_checkpoint_comes_back_whole(saved: list[Checkpoint]) -> None:
    media = MemoryMedia(SIZE)
    for checkpoint in saved:
        store = RegisterStore(media)
        store.load()
        store.save(checkpoint)
    assert RegisterStore(media).load() == saved[-1]


@given(
    st.lists(checkpoints, min_size=2, max_size=4, unique=True),
    st.integers(0, SIZE - 1),
    st.integers(1, 255),
)
def test_damage_to_one_copy_costs_at_most_the_last_checkpoint(
    saved: list[Checkpoint], at: int, flip: int
) -> None:
    media = MemoryMedia(SIZE)
    store = RegisterStore(media)
    for checkpoint in saved:
        store.save(checkpoint)
    media.write(at, bytes((media.read(at, 1)[0] ^ flip,)))
    again = RegisterStore(media)
    assert again.load() in saved[-2:]
    assert again.damaged == 1


def test_two_damaged_copies_are_counted_and_not_believed() -> None:
    media = MemoryMedia(SIZE)
    RegisterStore(media).save(SOME)
    for at in (30, SIZE // 2 + 30):
        media.write(at, bytes((media.read(at, 1)[0] ^ 1,)))
    again = RegisterStore(media)
    assert again.load() is None
    assert again.damaged == 2


@pytest.mark.parametrize("energy", [-1, MAX_REGISTER_MWH + 1])
@pytest.mark.parametrize("which", range(4))
def test_a_register_out_of_range_is_refused_and_the_last_one_stands(
    which: int, energy: int
) -> None:
    store = RegisterStore(MemoryMedia(SIZE))
    store.save(SOME)
    registers = [1, 2, 3, 4]
    registers[which] = energy
    forward, reverse, unit_forward, unit_reverse = registers
    with pytest.raises(ValueError, match=f"a register of {energy} mWh is out of range"):
        store.save(Checkpoint(forward, reverse, unit_forward, unit_reverse, SOME.unit, None))
    assert store.load() == SOME


@pytest.mark.parametrize("mark", [b"", b"12345", b"1234567"])
def test_a_mark_of_another_length_is_refused(mark: bytes) -> None:
    with pytest.raises(ValueError, match="mark has 6 bytes"):
        RegisterStore(MemoryMedia(SIZE)).save(replace(SOME, unit=mark))


@pytest.mark.parametrize("wall", [None, 0.0, -5.0, math.inf, -math.inf, math.nan, 3e11, 0.0001])
def test_a_time_that_cannot_be_kept_is_not_known(wall: float | None) -> None:
    media = MemoryMedia(SIZE)
    RegisterStore(media).save(replace(SOME, wall=wall))
    assert RegisterStore(media).load() == replace(SOME, wall=None)
