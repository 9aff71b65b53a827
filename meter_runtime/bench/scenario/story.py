"""A scenario told to a person: a line for each thing that happens, and the verdicts."""

from collections.abc import Callable

from meter_runtime.bench.happenings import Happening
from meter_runtime.bench.scenario.player import Report
from meter_runtime.clock import jst

_COUNTED = ("request", "response")
"""Too many to be told one by one; answers that refuse are told."""
_QUIET = ("tty-opened", "tty-closed", "module-reset")
MAX_LINE = 160


class Story:
    """Writes lines as they come; the times are seconds since it began and the meter's clock."""

    def __init__(self, write: Callable[[str], None], began: float) -> None:
        self._write = write
        self._began = began
        self._counts = dict.fromkeys(_COUNTED, 0)

    def hear(self, happening: Happening) -> None:
        """Something happened in the laboratory."""
        refused = "_SNA" in str(happening.detail.get("service", ""))
        if happening.kind in _COUNTED and not refused:
            self._counts[happening.kind] += 1
            return
        if happening.kind in _QUIET and happening.detail.get("module") == "meter":
            return
        self._tell_counts()
        elapsed = happening.at_monotonic - self._began
        clock = jst(happening.wall).strftime("%H:%M:%S")
        line = f"{elapsed:9.2f}s  {clock}  {happening.kind:<16} {happening.text}"
        self._write(line.rstrip()[:MAX_LINE])

    def step(self, words: str) -> None:
        """A step is taken."""
        self._tell_counts()
        self._write(f"{'':10}  {'':8}  ▶ {words}")

    def end(self, report: Report) -> None:
        """The verdicts, and the whole."""
        self._tell_counts()
        for result in report.results:
            mark = "✓" if result.passed else "✗"
            self._write(f"{mark} {result.what}: {result.reason}")
        word = "passed" if report.passed else "FAILED"
        self._write(f"{word}: {report.title}")

    def _tell_counts(self) -> None:
        requests, responses = (self._counts[kind] for kind in _COUNTED)
        if requests or responses:
            self._write(f"{'':10}  {'':8}  … {requests} requests, {responses} answers")
        self._counts = dict.fromkeys(_COUNTED, 0)
