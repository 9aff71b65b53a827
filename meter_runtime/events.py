"""A typed, synchronous event bus.

One room says what happened, by publishing a frozen dataclass; others subscribe to the type.
Handlers run at once, in the order of their subscription, in the publisher's task: they must
be short and must not wait. A handler that raises is logged and never stops the publisher or
the handlers after it, because metering outranks whoever listens to it.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

log = logging.getLogger(__name__)

E = TypeVar("E")


class EventBus:
    """Publish and subscribe by event type."""

    def __init__(self) -> None:
        self._handlers: defaultdict[type[Any], list[Callable[[Any], None]]] = defaultdict(list)
        self.failures = 0

    def subscribe(self, kind: type[E], handler: Callable[[E], None]) -> Callable[[], None]:
        """Call ``handler`` for each event of exactly this type; returns how to stop it."""
        handlers = self._handlers[kind]
        handlers.append(handler)

        def unsubscribe() -> None:
            if handler in handlers:
                handlers.remove(handler)

        return unsubscribe

    def publish(self, event: object) -> None:
        """Hand the event to every subscriber of its type."""
        for handler in tuple(self._handlers[type(event)]):
            try:
                handler(event)
            except Exception:
                self.failures += 1
                log.exception("a listener failed on %s", type(event).__name__)
