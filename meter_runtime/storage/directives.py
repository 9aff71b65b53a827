"""What the utility said by command over what the configuration says, kept twice.

Two things can be said: the current to limit to, and how energy fed in is told to the home. What
was said stands until the configuration says something else of the same thing than it did then: an
edited configuration counts again, and only for what was edited. Where nothing is stored, or it
cannot be believed, the configuration counts. Payload, big-endian::

    limit u8 (0 not said, 1 none, 2 so much) | limit u32 (mA) | counter u64
    | direction u8 (0 not said, 1 as it flows, 2 fed in as forward) | counter u64
    | configured then: limit u32 (mA, FFFFFFFF none) | fed in as forward u8

A counter is that of the command that said it, 0 where none did.
"""

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

log = logging.getLogger(__name__)

_MAGIC = b"Di"
_VERSION = 1
_PAYLOAD = struct.Struct(">BIQBQIB")
_NOT_SAID, _NONE, _SO_MUCH = range(3)
_AS_IT_FLOWS, _AS_FORWARD = 1, 2
_UNLIMITED_MA = 0xFFFF_FFFF
_COUNTERS = 1 << 64


@dataclass(frozen=True, slots=True)
class _Configured:
    """What the configuration says: mA, or :data:`_UNLIMITED_MA`."""

    limit_ma: int
    feed_in_as_forward: bool


@dataclass(frozen=True, slots=True)
class _Said:
    """What the commands said; ``limit_ma`` and ``feed_in_as_forward`` None: nothing."""

    limit_ma: int | None = None
    limit_counter: int = 0
    feed_in_as_forward: bool | None = None
    direction_counter: int = 0


class Directives:
    """What is in force, of both sources."""

    def __init__(
        self,
        media: Media,
        *,
        limit_a: float | None,
        feed_in_as_forward: bool,
        limit_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """What is stored on ``media`` over these of the configuration.

        ``limit_changed`` is called once another limit is in force.
        A medium that fails is logged and costs what was said: the configuration counts until it
        can be read, which the next command tries.
        """
        self._name = media.name
        self._limit_changed = limit_changed
        self._twin = Twin(media, 0, _MAGIC, _VERSION, _PAYLOAD.size)
        self._configured = _Configured(_milliamperes(limit_a), feed_in_as_forward)
        self._said = _Said()
        self._loaded = False
        try:
            self._load()
        except MeterError as failure:
            log.error("%s; until then the configuration counts, not what was commanded", failure)

    @staticmethod
    def size_for(write_unit: int) -> int:
        """Bytes taken on a medium with this write unit."""
        return Twin.size_for(_PAYLOAD.size, write_unit)

    @property
    def limit_a(self) -> float | None:
        """The current above which the supply is opened, to the milliampere; None: no limit."""
        said = self._said.limit_ma
        limit_ma = self._configured.limit_ma if said is None else said
        return None if limit_ma == _UNLIMITED_MA else limit_ma / 1000

    @property
    def limit_counter(self) -> int:
        """Of the command that said :attr:`limit_a` last, also where it does not count any more."""
        return self._said.limit_counter

    @property
    def feed_in_as_forward(self) -> bool:
        """The home is told what it feeds in as forward energy."""
        said = self._said.feed_in_as_forward
        return self._configured.feed_in_as_forward if said is None else said

    @property
    def direction_counter(self) -> int:
        """Of the command that said :attr:`feed_in_as_forward` last."""
        return self._said.direction_counter

    def say_limit(self, limit_a: float | None, counter: int) -> None:
        """A command limits the current, or with None says that nothing does. Durable on return.

        Raises :class:`MeterError` when the medium fails: what was in force then stands.
        """
        limit_ma = _milliamperes(limit_a)
        self._say(lambda said: replace(said, limit_ma=limit_ma, limit_counter=counter))

    def say_direction(self, feed_in_as_forward: bool | None, counter: int) -> None:
        """A command says the direction, or with None leaves it to the configuration again.

        Durable on return; raises as :meth:`say_limit`.
        """
        self._say(
            lambda said: replace(
                said, feed_in_as_forward=feed_in_as_forward, direction_counter=counter
            )
        )

    def _say(self, change: Callable[[_Said], _Said]) -> None:
        before = self.limit_a
        try:
            if not self._loaded:
                self._load()
            said = change(self._said)
            self._twin.save(_encode(said, self._configured))
            self._said = said
        finally:
            # Also where a medium that had failed could only be read.
            if self.limit_a != before:
                self._limit_changed()

    def _load(self) -> None:
        payload = self._twin.load()
        self._loaded = True
        found = None if payload is None else _decode(payload)
        if found is None:
            if self._twin.damaged or payload is not None:
                log.error(
                    "%s: damaged: what was commanded of limit and direction is lost,"
                    " and the configuration counts",
                    self._name,
                )
            return
        said, configured_then = found
        self._said = kept = _still_standing(said, configured_then, self._configured)
        if kept != said:
            log.info("the configuration of limit or direction is new and replaces a command")
            try:
                self._twin.save(_encode(kept, self._configured))
            except MeterError as failure:
                log.error("%s; the next start finds the configuration new once more", failure)


def _still_standing(said: _Said, then: _Configured, now: _Configured) -> _Said:
    if then.limit_ma != now.limit_ma:
        said = replace(said, limit_ma=None)
    if then.feed_in_as_forward != now.feed_in_as_forward:
        said = replace(said, feed_in_as_forward=None)
    return said


def _milliamperes(limit_a: float | None) -> int:
    return _UNLIMITED_MA if limit_a is None else max(1, round(limit_a * 1000))


def _encode(said: _Said, configured: _Configured) -> bytes:
    if not 0 <= max(said.limit_counter, said.direction_counter) < _COUNTERS:
        raise ValueError("a counter has 64 bits")
    match said.limit_ma:
        case None:
            limit = (_NOT_SAID, 0)
        case limit_ma if limit_ma == _UNLIMITED_MA:
            limit = (_NONE, 0)
        case limit_ma:
            limit = (_SO_MUCH, limit_ma)
    match said.feed_in_as_forward:
        case None:
            direction = _NOT_SAID
        case as_forward:
            direction = _AS_FORWARD if as_forward else _AS_IT_FLOWS
    return _PAYLOAD.pack(
        *limit,
        said.limit_counter,
        direction,
        said.direction_counter,
        configured.limit_ma,
        configured.feed_in_as_forward,
    )


def _decode(payload: bytes) -> tuple[_Said, _Configured] | None:
    """None for what this program never writes."""
    limit, limit_ma, limit_counter, direction, direction_counter, then_ma, then_forward = (
        _PAYLOAD.unpack(payload)
    )
    if limit > _SO_MUCH or direction > _AS_FORWARD or then_forward > 1:
        return None
    said = _Said(
        {_NOT_SAID: None, _NONE: _UNLIMITED_MA}.get(limit, limit_ma),
        limit_counter,
        {_NOT_SAID: None}.get(direction, direction == _AS_FORWARD),
        direction_counter,
    )
    return said, _Configured(then_ma, bool(then_forward))
