"""The two families of errors that reach a person.

A ``UsageError`` is the caller's to mend (exit status 2: a wrong option, a key the
configuration does not know); a ``MeterError`` is the world's (exit status 1: a port that is
gone, a directory that cannot be written). Both carry one line that says what failed, where,
and what to do, and never a secret.
"""

import difflib
from collections.abc import Iterable


class MeterError(Exception):
    """Something the meter needs failed; the message says what, where and what to do."""


class UsageError(MeterError):
    """The request itself is wrong; the message names the nearest right one."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a UsageError: the known word that was probably meant, or all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known: {', '.join(words)}" if words else "there are none"
