"""The fuzzer's targets, each tried for a moment with what hypothesis thinks of."""

import importlib
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import TARGETS, steps

EXAMPLES = 100


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_run(name: str) -> None:
    target = importlib.import_module(f"fuzz.{name}")
    for seed in target.SEEDS:
        target.run(seed)
        for length in range(len(seed)):
            target.run(seed[:length])


@st.composite
def mutants(draw: st.DrawFn, target: ModuleType) -> bytes:
    """Random bytes, or pieces of the seeds with random bytes between them."""
    piece = st.sampled_from(target.SEEDS).flatmap(
        lambda seed: st.tuples(
            st.just(seed), st.integers(0, len(seed)), st.integers(0, len(seed))
        ).map(lambda cut: cut[0][min(cut[1:]) : max(cut[1:])])
    )
    return b"".join(draw(st.lists(st.one_of(piece, st.binary(max_size=12)), max_size=6)))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_hypothesis_thinks_of_breaks_it(name: str) -> None:
    target = importlib.import_module(f"fuzz.{name}")

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(mutants(target))
    def survive(data: bytes) -> None:
        target.run(data)

    survive()


def test_a_step_ends_with_nul_and_its_time() -> None:
    assert list(steps(b"ab\0\x04cd\0\xff\0")) == [(b"ab", 1.0), (b"cd", 63.75), (b"", 0.0)]
