"""What is wanted of the switch is stored whole, or not believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.switch_state import MAX_TRIPS, Origin, SwitchState, SwitchStateStore
from meter_runtime.storage.twin import Twin

STATES = st.builds(
    SwitchState,
    st.booleans(),
    st.sampled_from(Origin),
    st.integers(0, MAX_TRIPS),
    st.none() | st.integers(1, 10**12).map(lambda ms: ms / 1000),
)


def medium(write_unit: int = 1) -> MemoryMedia:
    return MemoryMedia(SwitchStateStore.size_for(write_unit), write_unit=write_unit)


def test_a_new_medium_tells_nothing() -> None:
    store = SwitchStateStore(medium())
    assert store.load() is None
    assert store.damaged == 0


@given(st.lists(STATES, min_size=1, max_size=4), st.sampled_from([1, 512]))
def test_the_last_state_is_loaded(states: list[SwitchState], write_unit: int) -> None:
    media = medium(write_unit)
    for state in states:
        store = SwitchStateStore(media)
        store.load()
        store.save(state)
    assert SwitchStateStore(media).load() == states[-1]


@pytest.mark.parametrize("since", [-1.0, 0.0, 1e13])
def test_a_time_that_does_not_fit_is_not_known(since: float) -> None:
    media = medium()
    SwitchStateStore(media).save(SwitchState(True, Origin.LIMIT, 1000, since))
    assert SwitchStateStore(media).load() == SwitchState(True, Origin.LIMIT, MAX_TRIPS, None)


@pytest.mark.parametrize("payload", [b"\0\1", b"\3\1", b"\2\3", b"\2\xff"])
def test_a_code_that_means_nothing_is_not_believed(payload: bytes) -> None:
    media = medium()
    twin = Twin(media, 0, b"SW", 1, 9)
    twin.load()
    twin.save(payload.ljust(9, b"\0"))
    assert SwitchStateStore(media).load() is None


@given(st.binary(min_size=64, max_size=64))
def test_noise_is_not_believed(noise: bytes) -> None:
    media = medium()
    media.write(0, noise)
    assert SwitchStateStore(media).load() is None


@given(STATES, st.integers(0, 20), st.integers(1, 255))
def test_a_damaged_byte_costs_no_more_than_the_last_state(
    state: SwitchState, at: int, flip: int
) -> None:
    media = medium()
    store = SwitchStateStore(media)
    store.save(SwitchState(False, Origin.COMMAND))
    store.save(state)
    for copy in (0, 32):
        damaged = MemoryMedia(media.size)
        damaged.write(0, media.read(0, media.size))
        damaged.write(copy + at, bytes((media.read(copy + at, 1)[0] ^ flip,)))
        assert SwitchStateStore(damaged).load() in (state, SwitchState(False, Origin.COMMAND))
