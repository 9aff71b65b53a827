"""A sample of the power cuts; ``./dev powercut`` tries them all."""

import random
import re
from collections.abc import Callable, Iterator

import power_mutations
import pytest
from power import (
    Contents,
    Cut,
    Life,
    PowerCutMedia,
    Supply,
    Tally,
    TornBelievedError,
    explore,
)
from powercut import SCENARIOS

SEED = 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_was_acknowledged_survives_and_nothing_is_invented(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    tally = SCENARIOS[name].play(SEED, whole=False)
    record_property("power cuts", tally.cuts)
    record_property("survivors", tally.survivors)
    assert tally.survivors > 50, f"too few to prove anything: {tally}"


def test_what_was_not_flushed_is_lost_torn_and_reordered() -> None:
    supply = Supply((b"....",), 1)
    supply.media[0].write(0, b"ab")
    supply.media[0].write(1, b"xy")
    last = list(supply.cuts(random.Random(SEED)))[-1]
    found = {content for (content,) in last.survivors}
    assert found >= {b"....", b"ab..", b".xy.", b"axy.", b"aby.", b"a...", b"..y.", b".x.."}
    assert b"abx." not in found


def test_what_was_flushed_stays() -> None:
    supply = Supply((b"..",), 1)
    supply.media[0].write(0, b"ab")
    supply.media[0].flush()
    writing, flushing, rest = supply.cuts(random.Random(SEED))
    whole = {(b"..",), (b"a.",), (b".b",), (b"ab",)}
    assert set(writing.survivors) == set(flushing.survivors) == whole
    assert rest.survivors == ((b"ab",),)


def test_a_write_is_torn_at_every_byte_and_loses_pieces_from_its_midst() -> None:
    supply = Supply((bytes(48),), 1)
    supply.media[0].write(0, b"x" * 48)
    found = {content for (content,) in next(supply.cuts(random.Random(SEED))).survivors}
    assert found >= {b"x" * n + bytes(48 - n) for n in range(49)}
    assert found >= {bytes(48 - n) + b"x" * n for n in range(49)}
    assert found >= {b"x" * 16 + bytes(16) + b"x" * 16, bytes(16) + b"x" * 16 + bytes(16)}


def test_a_cut_of_one_medium_leaves_the_others() -> None:
    supply = Supply((b".", b"."), 1)
    supply.media[0].write(0, b"a")
    supply.media[0].flush()
    supply.media[1].write(0, b"b")
    last = list(supply.cuts(random.Random(SEED)))[-1]
    assert set(last.survivors) == {(b"a", b"."), (b"a", b"b")}


def test_a_torn_write_is_told_from_a_whole_one() -> None:
    supply = Supply((b"..",), 1)
    supply.media[0].write(0, b"ab")
    cut = next(supply.cuts(random.Random(SEED)))
    torn = {content for content in cut.survivors if cut.tore(content, 0, 0, 2)}
    assert torn == {(b"a.",), (b".b",)}


def test_a_failure_names_seed_cut_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PowerCutMedia, "flush", lambda _: None)
    with pytest.raises(AssertionError) as failed:
        SCENARIOS["registers-fram"].play(SEED, whole=True)
    *cuts, seed = failed.value.__notes__
    assert seed == "seed 1"
    pattern = r"power cut at \d+ \(.+\), survivor \d+ of \d+; until then \d+ cuts, \d+ survivors"
    assert cuts
    assert all(re.fullmatch(pattern, cut) for cut in cuts)


class Credulous:
    """Believes some torn writes."""

    def __init__(self, *believed: bytes) -> None:
        self.supply = Supply((bytes(8),), 1)
        self.supply.media[0].write(0, b"abcdefgh")
        self._believed = believed

    def after(self, cut: Cut, contents: Contents) -> Iterator[Life]:
        if cut.tore(contents, 0, 0, 8) and contents[0] in self._believed:
            raise TornBelievedError(contents[0])
        yield from ()


def test_one_torn_write_believed_is_luck_and_two_are_a_failure() -> None:
    one, another = b"abc".ljust(8, b"\0"), b"abcd".ljust(8, b"\0")
    luck = explore(Credulous(one), 1, random.Random(SEED), Tally())
    assert luck.believed == {one}
    with pytest.raises(AssertionError, match="no luck any more"):
        explore(Credulous(one, another), 1, random.Random(SEED), Tally())


@pytest.mark.parametrize("mutation", power_mutations.MUTATIONS, ids=str)
def test_each_mutation_still_fits_the_source(mutation: power_mutations.Mutation) -> None:
    assert mutation.fits(), f"{mutation} no longer fits {mutation.module}: mend mutations.toml"
    assert mutation.scenario in SCENARIOS
