"""How far the utility has the half-hours is stored whole, or not believed."""

import pytest
from cut_medium import CutMedium, FailingMedia, after_cuts
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.uplink_state import SERIAL_SIZE, UplinkState, UplinkStateStore

NUMBERS = st.integers(0, 2**64 - 1)
STATES = st.builds(
    UplinkState,
    st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-", min_size=1, max_size=SERIAL_SIZE),
    NUMBERS,
    NUMBERS,
    NUMBERS,
)
SIZE = UplinkStateStore.size_for(1)


def test_a_new_medium_tells_nothing() -> None:
    store = UplinkStateStore(MemoryMedia(SIZE))
    assert store.load() is None
    assert store.damaged == 0


@given(st.lists(STATES, min_size=1, max_size=4), st.sampled_from([1, 512]))
def test_the_last_state_is_loaded(states: list[UplinkState], write_unit: int) -> None:
    media = MemoryMedia(UplinkStateStore.size_for(write_unit), write_unit=write_unit)
    for state in states:
        store = UplinkStateStore(media)
        store.load()
        store.save(state)
    assert UplinkStateStore(media).load() == states[-1]


def test_a_serial_that_is_too_long_is_refused() -> None:
    store = UplinkStateStore(MemoryMedia(SIZE))
    store.load()
    with pytest.raises(ValueError, match="16 characters"):
        store.save(UplinkState("A" * 17, 0, 0, 0))
    assert UplinkStateStore(MemoryMedia(SIZE)).load() is None


def test_power_that_fails_leaves_the_old_state_or_the_new() -> None:
    old, new = UplinkState("M0000001", 10, 12, 1025), UplinkState("M0000001", 58, 60, 2049)
    media = MemoryMedia(UplinkStateStore.size_for(8), write_unit=8)
    store = UplinkStateStore(media)
    store.load()
    store.save(UplinkState("M0000001", 1, 1, 1))
    store.save(old)

    def save(medium: CutMedium) -> None:
        store = UplinkStateStore(medium)
        store.load()
        store.save(new)

    found = {
        UplinkStateStore(after(content)).load()
        for content in after_cuts(media.read(0, media.size), 8, save)
    }
    assert found == {old, new}


def test_after_a_failure_the_one_before_stands() -> None:
    media = FailingMedia(SIZE)
    store = UplinkStateStore(media)
    store.load()
    kept = UplinkState("M0000001", 10, 12, 1025)
    store.save(kept)
    media.working = 0
    with pytest.raises(MeterError):
        store.save(UplinkState("M0000001", 11, 12, 1025))
    media.working = None
    assert UplinkStateStore(media).load() == kept


@given(st.binary(min_size=SIZE, max_size=SIZE))
def test_noise_is_not_believed(noise: bytes) -> None:
    media = MemoryMedia(SIZE)
    media.write(0, noise)
    assert UplinkStateStore(media).load() is None


def after(content: bytes) -> MemoryMedia:
    media = MemoryMedia(len(content), write_unit=8)
    media.write(0, content)
    return media
