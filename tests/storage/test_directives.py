"""What the utility commanded lasts, and an edited configuration counts again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.directives import Directives
from meter_runtime.storage.media import MemoryMedia

UNIT = 512
COUNTER = 2**64 - 1

limits = st.none() | st.integers(1, 120_000).map(lambda milliamperes: milliamperes / 1000)


class Medium(MemoryMedia):
    """Fails while it is told to, and counts its writes."""

    failing = False
    writes = 0

    def read(self, offset: int, n: int) -> bytes:
        self._check()
        return super().read(offset, n)

    def write(self, offset: int, data: bytes) -> None:
        self._check()
        self.writes += 1
        super().write(offset, data)

    def _check(self) -> None:
        if self.failing:
            raise MeterError("card: gone; put it back")


def medium() -> Medium:
    return Medium(Directives.size_for(UNIT), write_unit=UNIT)


def booted(media: Medium, limit_a: float | None = None, *, forward: bool = False) -> Directives:
    return Directives(media, limit_a=limit_a, feed_in_as_forward=forward)


def limit_of(directives: Directives) -> float | None:
    return directives.limit_a


def forward_of(directives: Directives) -> bool:
    return directives.feed_in_as_forward


@given(limits, st.booleans())
def test_without_a_command_the_configuration_counts_and_nothing_is_written(
    limit_a: float | None, forward: bool
) -> None:
    media = medium()
    directives = booted(media, limit_a, forward=forward)
    assert (directives.limit_a, directives.feed_in_as_forward) == (limit_a, forward)
    assert (directives.limit_counter, directives.direction_counter) == (0, 0)
    assert media.writes == 0


@given(limits, limits, st.booleans(), st.booleans() | st.none(), st.integers(0, COUNTER))
def test_what_was_commanded_outlives_a_restart(
    configured: float | None,
    commanded: float | None,
    forward: bool,
    direction: bool | None,
    counter: int,
) -> None:
    media = medium()
    booted(media, configured, forward=forward).say_limit(commanded, counter)
    booted(media, configured, forward=forward).say_direction(direction, COUNTER - counter)
    again = booted(media, configured, forward=forward)
    assert again.limit_a == commanded
    assert again.feed_in_as_forward is (forward if direction is None else direction)
    assert (again.limit_counter, again.direction_counter) == (counter, COUNTER - counter)


def test_an_edited_configuration_counts_once_and_only_for_what_was_edited() -> None:
    media = medium()
    first = booted(media, 30.0)
    first.say_limit(None, 1)
    first.say_direction(True, 2)
    edited = booted(media, 40.0)
    assert (edited.limit_a, edited.feed_in_as_forward) == (40.0, True)
    # Edited back: the command it replaced does not rise again.
    assert booted(media, 30.0).limit_a == 30.0
    edited = booted(media, 30.0, forward=True)
    edited.say_limit(20.0, 3)
    again = booted(media, 30.0, forward=True)
    assert (again.limit_a, again.limit_counter) == (20.0, 3)


def test_leaving_the_direction_to_the_configuration_lasts_as_well() -> None:
    media = medium()
    directives = booted(media, forward=True)
    directives.say_direction(False, 1)
    assert not forward_of(directives)
    directives.say_direction(None, 2)
    assert forward_of(directives)
    assert not booted(media, forward=False).feed_in_as_forward


def test_a_changed_limit_is_told_and_an_equal_one_is_not() -> None:
    told: list[float | None] = []
    directives = Directives(
        medium(),
        limit_a=30.0,
        feed_in_as_forward=False,
        limit_changed=lambda: told.append(directives.limit_a),
    )
    for limit_a in (30.0, 20.0, 20.0, None, None):
        directives.say_limit(limit_a, 1)
    directives.say_direction(True, 1)
    assert told == [20.0, None]


def test_what_cannot_be_stored_is_not_in_force_and_not_told() -> None:
    media = medium()
    told: list[None] = []
    directives = Directives(
        media, limit_a=None, feed_in_as_forward=False, limit_changed=lambda: told.append(None)
    )
    directives.say_limit(30.0, 1)
    media.failing = True
    with pytest.raises(MeterError, match="put it back"):
        directives.say_limit(20.0, 2)
    with pytest.raises(MeterError, match="put it back"):
        directives.say_direction(True, 3)
    assert (directives.limit_a, directives.limit_counter, len(told)) == (30.0, 1, 1)
    assert not directives.feed_in_as_forward
    media.failing = False
    assert booted(media).limit_a == 30.0


def test_a_medium_that_fails_at_the_start_does_not_lose_what_is_on_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    media = medium()
    booted(media).say_limit(30.0, 1)
    media.failing = True
    told: list[None] = []
    directives = Directives(
        media, limit_a=None, feed_in_as_forward=False, limit_changed=lambda: told.append(None)
    )
    assert limit_of(directives) is None
    assert "the configuration counts" in caplog.text
    media.failing = False
    directives.say_direction(True, 2)
    assert (limit_of(directives), len(told)) == (30.0, 1)
    again = booted(media)
    assert (again.limit_a, again.direction_counter) == (30.0, 2)


def test_a_damaged_medium_is_told_and_costs_only_what_was_commanded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    media = medium()
    booted(media).say_limit(30.0, 1)
    media.write(0, b"\x55" * media.size)
    assert booted(media, 60.0).limit_a == 60.0
    assert "damaged" in caplog.text


def test_a_power_cut_at_any_byte_leaves_the_one_or_the_other() -> None:
    whole = medium()
    booted(whole).say_limit(30.0, 1)
    before = whole.read(0, whole.size)
    booted(whole).say_limit(20.0, 2)
    after = whole.read(0, whole.size)
    seen = set()
    for cut in range(whole.size + 1):
        media = medium()
        media.write(0, after[:cut] + before[cut:])
        directives = booted(media)
        seen.add((directives.limit_a, directives.limit_counter))
    assert seen == {(30.0, 1), (20.0, 2)}


@given(st.binary(min_size=2 * UNIT, max_size=2 * UNIT))
def test_whatever_is_on_the_medium_the_meter_starts(content: bytes) -> None:
    media = medium()
    media.write(0, content[: media.size])
    assert booted(media, 60.0).limit_a == 60.0
