"""Half-hours that a command asked for: which part is to be published next. Sans-I/O."""

from collections import deque
from dataclasses import dataclass

MAX_REQUESTS = 8
"""Histories asked for and not yet sent."""


@dataclass(slots=True)
class _Request:
    request_id: str
    after: int
    """Rises as it is sent."""
    upto: int


class HistoryRequests:
    """At most :data:`MAX_REQUESTS`, served in their order."""

    def __init__(self) -> None:
        self._waiting: deque[_Request] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, first: int, last: int, request_id: str) -> bool:
        """Half-hours ``first`` to ``last`` (inclusive); False: too many are waiting."""
        if len(self._waiting) >= MAX_REQUESTS:
            return False
        self._waiting.append(_Request(request_id, first - 1, last))
        return True

    def next(self, reach: int, newest: int | None) -> tuple[int, int, str] | None:
        """``after``, ``upto`` and id of what is left of the first request that has an answer.

        Before ``reach`` nothing is known any more, after ``newest`` nothing is known yet.
        """
        while self._waiting:
            request = self._waiting[0]
            after = max(request.after, reach - 1)
            upto = request.upto if newest is None else min(request.upto, newest)
            if newest is not None and after < upto:
                return after, upto, request.request_id
            self._waiting.popleft()
        return None

    def sent(self, upto: int) -> None:
        """The first request was served up to here."""
        request = self._waiting[0]
        request.after = upto
        if upto >= request.upto:
            self._waiting.popleft()
