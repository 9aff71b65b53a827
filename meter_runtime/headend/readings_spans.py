"""Runs of slots, as a message bounds them: ``(after, upto)`` is ``after < slot <= upto``."""

from collections.abc import Iterable, Iterator

Span = tuple[int, int]


def without(span: Span, holes: Iterable[Span]) -> Iterator[Span]:
    """What is left of ``span``, in order; ``holes`` may overlap and reach beyond it."""
    at, upto = span
    for after, end in sorted(holes):
        if after >= upto:
            break
        if at < after:
            yield at, after
        at = max(at, end)
    if at < upto:
        yield at, upto


def single(slot: int) -> Span:
    """The run of this one slot."""
    return slot - 1, slot


def within(slots: Iterable[int], spans: Iterable[Span]) -> Iterator[int]:
    """The slots that lie in one of the spans; both in rising order, the spans disjoint."""
    remaining = iter(spans)
    span = next(remaining, None)
    for slot in slots:
        while span is not None and span[1] < slot:
            span = next(remaining, None)
        if span is None:
            return
        if span[0] < slot:
            yield slot
