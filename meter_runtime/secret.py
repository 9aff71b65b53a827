"""A string that cannot leak by being printed.

Passwords, pre-shared keys and private keys travel as :class:`Secret`. Its ``repr``, ``str``
and ``format`` show a mask; only an explicit :meth:`Secret.reveal` at the place of use (the
UART command, the key derivation) gives the value. Equality is constant-time.
"""

import hmac

MASK = "••••••"


class Secret:
    """An opaque wrapper of one secret string."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The clear value, for the one place that needs it."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not serialised; reveal it where it is sealed")
