"""The register checkpoint against an oracle: the last one saved, or the one before it."""

from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.registers import Checkpoint, RegisterStore

SIZE = RegisterStore.size_for(1)
mwh = st.integers(0, (1 << 64) - 1)
checkpoints = st.builds(
    Checkpoint,
    mwh,
    mwh,
    mwh,
    mwh,
    st.from_regex(r"[0-9A-Z]{1,12}", fullmatch=True),
    st.none() | st.integers(1, 4_000_000_000_000).map(lambda ms: ms / 1000),
)


def test_a_new_medium_has_no_checkpoint() -> None:
    assert RegisterStore(MemoryMedia(SIZE)).load() is None


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
    assert again.damaged <= 1


def test_two_damaged_copies_are_counted_and_not_believed() -> None:
    media = MemoryMedia(SIZE)
    store = RegisterStore(media)
    for n in range(2):
        store.save(Checkpoint(n, n, n, n, "A1", 1.0))
    media.write(30, b"\xff")
    media.write(SIZE // 2 + 30, b"\xff")
    again = RegisterStore(media)
    assert again.load() is None
    assert again.damaged == 2
