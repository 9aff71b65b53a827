"""What a check found, and the line by which a guest tells it.

A guest's result port carries lines of words apart by a tab::

    PASS <check> <what it proved>
    FAIL <check> <what was wrong>
    ...          lines that a check and its partner on the host agree on
    END          the guest did all it was asked for

A guest that goes down before END has failed, whatever it said.
"""

from dataclasses import dataclass

PASS = "PASS"  # noqa: S105 - no password
FAIL = "FAIL"
END = "END"
SEPARATOR = "\t"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check; ``text`` is what it proved, or why it failed."""

    check: str
    passed: bool
    text: str

    def line(self) -> str:
        """As the guest says it, without the end of the line."""
        return SEPARATOR.join(
            (PASS if self.passed else FAIL, self.check, " ".join(self.text.split()))
        )

    @staticmethod
    def parse(line: str) -> "Outcome | None":
        """The outcome that this line tells; None for a line that tells none."""
        match line.split(SEPARATOR):
            case [verdict, check, text] if verdict in (PASS, FAIL):
                return Outcome(check, verdict == PASS, text)
            case _:
                return None
