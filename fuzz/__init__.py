"""Coverage-guided fuzzing of everything that reads bytes from outside.

A target is one module with ``SEEDS``, inputs to begin with, and ``run(data)``, which raises for
whatever should not happen. ``./dev fuzz`` lets atheris look for such inputs; the test suite runs
the same targets for a moment with hypothesis.

Targets that have a time understand their input as steps: a NUL byte ends a step, and the byte
after it says how much time passes.
"""

from collections.abc import Iterator

TARGETS = ("module_uart", "host_uart", "plc_uart", "joining", "echonet", "envelope", "commands")

QUARTER_S = 0.25


def steps(data: bytes) -> Iterator[tuple[bytes, float]]:
    """The input's steps: what is fed, and the seconds that pass after it, 0 to 63.75."""
    while data:
        fed, _, rest = data.partition(b"\0")
        yield fed, QUARTER_S * rest[0] if rest else 0.0
        data = rest[1:]
