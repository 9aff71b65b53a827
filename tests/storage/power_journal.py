"""The life of a command journal, and what it owes after a power cut."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from power import Contents, Cut, Supply

from meter_runtime.storage.journal import KEY_SIZE, Journal, State

DEPTH = 5


@dataclass(frozen=True, slots=True)
class Begin:
    command: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The command ends; at each attempt with another outcome."""

    command: int
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Restart:
    """The program starts again."""


JournalStep = Begin | Finish | Restart

PENDING_ACROSS: tuple[JournalStep, ...] = (
    Begin(1),
    Restart(),
    Begin(2),
    Finish(1),
    Restart(),
    Begin(3),
    Begin(4),
    Finish(3),
    Restart(),
    Finish(2),
    Finish(4),
)

WRAP_AROUND: tuple[JournalStep, ...] = (
    Begin(0),
    *(step for n in range(1, 2 * DEPTH) for step in (Begin(n), Finish(n))),
    Restart(),
    Begin(2 * DEPTH),
    Finish(0),
    Finish(2 * DEPTH),
)


def key(command: int) -> bytes:
    return bytes((0xC0 + command,)) * KEY_SIZE


def intent(command: int) -> bytes:
    return bytes((0x40 + command,)) * (command % 4)


def outcome(step: Finish) -> bytes:
    return bytes((0x80 + step.command, step.attempt)) * (1 + step.command % 3)


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of a command: its intent while it is pending, its outcome when done."""

    state: State
    payload: bytes


def said(step: Begin | Finish) -> Fact:
    """What an entry of this step says."""
    if isinstance(step, Begin):
        return Fact(State.PENDING, intent(step.command))
    return Fact(State.DONE, outcome(step))


@dataclass(frozen=True, slots=True)
class Known:
    """The commands, those that ended last at the end.

    ``tried`` were being written at a cut. They were meant: a later write that is torn in its turn
    may complete one of them, and the command is then begun or ended after all.
    """

    facts: Mapping[int, Fact] = field(default_factory=dict)
    tried: tuple[Begin | Finish, ...] = ()

    def then(self, step: JournalStep) -> "Known":
        if isinstance(step, Restart):
            return self
        others = {n: fact for n, fact in self.facts.items() if n != step.command}
        return Known({**others, step.command: said(step)}, self.tried)

    def promised(self, more: int) -> set[int]:
        """The commands that must be found, with ``more`` pending than are known to be."""
        pending = [n for n, fact in self.facts.items() if fact.state is State.PENDING]
        done = [n for n, fact in self.facts.items() if fact.state is State.DONE]
        outcomes = max(0, DEPTH - 1 - len(pending) - more)
        return {*pending, *done[len(done) - min(outcomes, len(done)) :]}


class JournalLife:
    """One run over a journal; each step is acknowledged before the next."""

    def __init__(
        self, contents: Contents, steps: tuple[JournalStep, ...], known: Known, write_unit: int
    ) -> None:
        self.supply = Supply(contents, write_unit)
        self._write_unit = write_unit
        self._began: list[tuple[int, JournalStep, Known]] = [(0, Restart(), known)]
        journal = Journal.open(self.supply.media[0])
        for step in steps:
            self._began.append((self.supply.now, step, known))
            match step:
                case Begin(command):
                    journal.begin(key(command), intent(command))
                case Finish(command):
                    journal.finish(key(command), outcome(step))
                case Restart():
                    journal = Journal.open(self.supply.media[0])
            known = known.then(step)
            _check(journal, known, Restart())
        self._began.append((self.supply.now, Restart(), known))

    @classmethod
    def new(cls, steps: tuple[JournalStep, ...], write_unit: int) -> "JournalLife":
        return cls((bytes(Journal.size_for(DEPTH, write_unit)),), steps, Known(), write_unit)

    def after(self, cut: Cut, contents: Contents) -> Iterator["JournalLife"]:
        _, step, known = next(b for b in reversed(self._began) if b[0] <= cut.at)
        journal = Journal.open(Supply(contents, self._write_unit).media[0])
        assert journal.corrupt <= 1 + len(known.tried), "one write per cut can be torn"
        found = _check(journal, known, step)
        pending = [n for n, fact in found.items() if fact.state is State.PENDING]
        attempt = 2 + len(known.tried)
        # Whoever sent a command that was not begun sends it again; then comes one more.
        again = [] if not isinstance(step, Begin) or step.command in found else [step.command]
        more = max((*found, *again), default=0) + 1
        following = (
            *(Finish(n, attempt) for n in pending),
            *(step for n in (*again, more) for step in (Begin(n), Finish(n, attempt))),
        )
        tried = known.tried if isinstance(step, Restart) else (*known.tried, step)
        yield JournalLife(contents, following, Known(found, tried), self._write_unit)


def _check(journal: Journal, known: Known, step: JournalStep) -> dict[int, Fact]:
    """What ``journal`` says of each command, when ``step`` may have been on its way."""
    trying = () if isinstance(step, Restart) else (step,)
    done = {n for n, fact in known.facts.items() if fact.state is State.DONE}
    possible = [(t.command, said(t)) for t in known.tried if t.command not in done]
    possible += [(t.command, said(t)) for t in trying]
    promised = known.promised(isinstance(step, Begin))
    found: dict[int, tuple[int, Fact]] = {}
    for command in range(3 * DEPTH):
        owed = known.facts.get(command)
        entry = journal.find(key(command))
        if entry is None:
            assert command not in promised, f"command {command} is forgotten"
            continue
        fact = Fact(entry.state, entry.payload)
        assert fact == owed or (command, fact) in possible, f"{command} was never so: {fact}"
        found[command] = (entry.sequence, fact)
    pending = {key(n) for n, (_, fact) in found.items() if fact.state is State.PENDING}
    assert {entry.key for entry in journal.pending()} == pending, "pending, yet not found"
    return {n: fact for n, (_, fact) in sorted(found.items(), key=lambda item: item[1][0])}
