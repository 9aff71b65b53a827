"""A home on a bench over the weeks: who lives there, what it has measured, and what a HEMS sees.

The New System is real and so are the meter's gate, vault and radio; between them is nothing but a
pair of hands that carries each sealed command to the gate, from afar or with a terminal.
"""

import re
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.module.registers import Reg
from meter_runtime.clock import HALF_HOUR_S, JST, first_slot_of, jst, jst_day, slot_at
from meter_runtime.comm.contracts import LinkStarted
from meter_runtime.headend.authority import Role
from meter_runtime.headend.lab import SCS, Lab
from meter_runtime.headend.new_system import NewSystem
from meter_runtime.headend.register_contracts import ContractRecord, SupplyPoint
from meter_runtime.headend.register_requests import Request, State
from meter_runtime.headend.service_life import Life

from .conftest import eventually
from .terminal import Rx, Terminal

DAY_S = 86_400.0
DAYS_BACK = 40
TERMINAL = "terminal-1"
HARA, MORI = "Hara", "Mori"
"""The registrar, and the one responsible for the B-route."""

_NO_ENERGY = 0xFFFFFFFE
_UNITS_DWH = {0: 10_000, 1: 1_000, 2: 100, 3: 10, 4: 1}
"""E1, in 0.1 Wh."""
_CONTROLLER_TO_METER = bytes.fromhex("05FF01028801")
_SET_GET, _SET_GET_RES = 0x6E, 0x7E
_UNHURRIED, _PAUSE_S = 50, 1.0
"""After so many requests the meter has a rest: it answers no home that asks without end."""
_INSTANT = struct.Struct(">HBBBBB")
Pair = tuple[int | None, int | None]
"""Forward and reverse."""


class Hands:
    """The New System's relay: each command is at the gate at once, each answer back at once."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._answers: dict[str, bytes] = {}
        self.gate_of: dict[str, Bench] = {}
        """The benches of the meters that hang somewhere."""

    async def put(self, request_id: str, envelope: bytes, *, meter_id: str, expiry: int) -> None:
        answer = await self.carry(meter_id, envelope, Way.CONTROL)
        self._answers[request_id] = answer

    async def result(self, request_id: str) -> bytes | None:
        return self._answers.get(request_id)

    async def carry(self, meter_id: str, envelope: bytes, way: Way) -> bytes:
        """The meter's signed answer to a command that came this way."""
        bench = self.gate_of[meter_id]
        carrier, role = (SCS, SCS) if way is Way.CONTROL else (TERMINAL, f"terminals/{TERMINAL}")
        dispatch = Dispatch(carrier, way, bench.clock.wall(), "Ito", "", envelope)
        aroute = bench.meter.aroute
        assert aroute is not None
        answer = await aroute._gate.take(wrap(dispatch, self._lab.signing_key(role)), way)
        assert answer is not None
        return answer


class Utility:
    """The business side's people at work."""

    def __init__(self, lab: Lab, bench: Bench) -> None:
        self.hands = Hands(lab)
        self.bench = bench
        self._folder = lab.path.parent
        self.system = NewSystem.open(lab, relay=self.hands, now=self._wall)
        people = {HARA: Role.REGISTRAR, MORI: Role.BROUTE}
        self.system.staff.add(self.now, "Abe", frozenset({Role.ADMINISTRATOR}), None)
        for name, role in people.items():
            self.system.staff.add(self.now, name, frozenset({role}), "Abe")
        point = SupplyPoint("SP-1", "1-2-3 Nakanoshima, Osaka")
        self.system.register.add_supply_point(self.now, HARA, point)

    @property
    def now(self) -> float:
        """By the clock of the meter that hangs there; the utility's is right, too."""
        return self._wall()

    def _wall(self) -> float:
        return self.bench.clock.wall()

    @property
    def meter(self) -> str:
        return self.bench.meter.config.meter.id

    def moves_in(self, code: str, customer: str) -> None:
        """A contract from today, whose application is accepted today."""
        today = jst_day(self.now)
        contract = ContractRecord(code, customer, "SP-1", accepted_on=today)
        self.system.register.add_contract(self.now, HARA, contract)

    def moves_out(self, code: str) -> None:
        self.system.register.end_contract(self.now, HARA, code)

    async def begins(self, code: str) -> "Login":
        """The service begins; what the letter says."""
        async with link_starts(self.bench):
            (told,) = await self.system.service.begin(code, MORI)
        assert told.request is not None, told.said
        return await self.posted(told.request)

    async def rewrites(self, *, on_site: bool = False) -> "Login":
        """The customer lost the letter."""
        name = "broute.rewrite_password"
        async with link_starts(self.bench):
            issued = await self.system.issuing.issue(name, self.meter, by=MORI, on_site=on_site)
            if on_site:
                answer = await self.hands.carry(self.meter, issued.envelope, Way.TERMINAL)
                issued = self.system.issuing.take(answer)
        return await self.posted(issued)

    async def posted(self, request: Request) -> "Login":
        """The letter to the customer, once the meter has proved what it says."""
        await self.system.issuing.poll()
        request = self.system.requests.find(request.id)
        assert request.state is State.DONE, request.said
        letter = self._folder / f"{request.id}.txt"
        self.system.letters.post(self.now, MORI, request.id, letter)
        text = letter.read_text(encoding="utf-8")
        route_b_id = self.system.register.meter(request.meter).route_b_id
        assert " ".join(re.findall("....", route_b_id)) in text
        password = next(line for line in text.splitlines() if line.startswith("Password"))
        return Login(route_b_id, "".join(password.split()[1:]))

    async def asks(self) -> None:
        """Have the meter say how its B-route is."""
        request = await self.system.issuing.issue("broute.status", self.meter, by=MORI)
        await self.system.issuing.poll()
        assert self.system.requests.find(request.id).state is State.DONE

    def stage(self, code: str, meter: str | None = None) -> str:
        return self._life(code, meter or self.meter).stage.value

    def to_do(self, code: str) -> str:
        return self._life(code, self.meter).to_do

    def _life(self, code: str, meter: str) -> Life:
        return next(each for each in self.system.service.lives(code) if each.meter == meter)


@dataclass(frozen=True, slots=True)
class Login:
    """What a customer types into his HEMS."""

    route_b_id: str
    password: str


class Archive:
    """Every value that one metering unit ever stored, as the meter itself has it."""

    def __init__(self) -> None:
        self.values: dict[int, Pair] = {}

    def keep(self, bench: Bench) -> None:
        for record in bench.meter.metering.ring.records():
            self.values[record.slot] = (record.forward_dwh, record.reverse_dwh)


async def pass_days(bench: Bench, days: float) -> None:
    """As :meth:`Bench.advance`, with the last hour in full and only the boundaries before it."""
    metering, rest_s = bench.meter.metering, 3_600.0

    async def read() -> None:
        if bench.clock.wall() % HALF_HOUR_S == 0:
            await metering.poll()

    with bench.meter.crew.held(), bench.meter.keeper.held():
        await bench.clock.advance(days * DAY_S - rest_s, read)
    await bench.advance(rest_s)


@asynccontextmanager
async def link_starts(bench: Bench) -> AsyncIterator[None]:
    """What is done inside has the radio start anew, which has happened when the block ends."""
    started: list[LinkStarted] = []
    bench.meter.bus.subscribe(LinkStarted, started.append)
    yield
    await eventually(lambda: bool(started))


@asynccontextmanager
async def home(bench: Bench, login: Login) -> AsyncIterator["Hems"]:
    """A HEMS that has joined."""
    async with Terminal(bench.tty).opened() as terminal:
        await terminal.join(login.route_b_id, login.password)
        yield await Hems.of(terminal, bench)


async def is_let_in(bench: Bench, login: Login) -> bool:
    """Whether a home with this letter gets in, all the way from its module's first command."""
    async with Terminal(bench.tty).opened() as terminal:
        await terminal.log_in(login.route_b_id, login.password)
        if await terminal.scan() is None:
            return False
        await terminal.tune()
        return await terminal.knock()


async def assert_deserted(bench: Bench, login: Login, *, peer: str = "") -> None:
    """No beacon, no join where the meter's address ``peer`` is known, and nothing in the module to
    join by.
    """
    module = bench.dongle("meter").module
    await eventually(lambda: module.state.credentials is None)
    assert not module.state.registers[Reg.ANSWER_BEACONS]
    async with Terminal(bench.tty).opened() as terminal:
        await terminal.log_in(login.route_b_id, login.password)
        assert await terminal.scan() is None
        if peer:
            terminal.peer = peer
            assert not await terminal.knock()


class Hems:
    """A joined home that asks for everything there is."""

    def __init__(self, terminal: Terminal, bench: Bench) -> None:
        self.peer = terminal.peer
        self.terminal = terminal
        self._bench = bench
        self._tid = 0x4000
        self._unit_dwh = 1
        self._modulus = 1

    @classmethod
    async def of(cls, terminal: Terminal, bench: Bench) -> "Hems":
        hems = cls(terminal, bench)
        hems._unit_dwh = _UNITS_DWH[(await terminal.get(0xE1))[0]]
        hems._modulus = 10 ** (await terminal.get(0xD7))[0]
        return hems

    async def sees_only(self, archive: Archive, since: int) -> int:
        """Asserts that each value of all 41 days is the archive's, and none is older than the
        boundary ``since``; how many half-hours it sees.
        """
        archive.keep(self._bench)
        now = self._bench.clock.wall()

        def expected(slot: int) -> Pair:
            theirs = slot >= since and slot <= slot_at(now)
            forward, reverse = archive.values.get(slot, (None, None)) if theirs else (None, None)
            return self._shown(forward), self._shown(reverse)

        seen = dict(await self._by_day())
        assert seen == {slot: expected(slot) for slot in seen}
        ranged = dict(await self._by_range())
        assert ranged == {slot: expected(slot) for slot in ranged}
        assert ranged.keys() == seen.keys()
        await self._last_boundary(expected)
        await self._minutes(since)
        return sum(pair != (None, None) for pair in seen.values())

    async def _by_day(self) -> list[tuple[int, Pair]]:
        """E2 and E4 of each day."""
        found: list[tuple[int, Pair]] = []
        today = jst_day(self._bench.clock.wall())
        for days_ago in range(DAYS_BACK + 1):
            forward, reverse = await self._ask(0xE5, bytes((days_ago,)), 0xE2, 0xE4)
            assert forward[:2] == reverse[:2] == days_ago.to_bytes(2, "big")
            first = first_slot_of(today - timedelta(days=days_ago))
            pairs = zip(_energies(forward[2:]), _energies(reverse[2:]), strict=True)
            found += list(enumerate(pairs, first))
        return found

    async def _by_range(self) -> list[tuple[int, Pair]]:
        """EC of the same half-hours, twelve at a time."""
        found: list[tuple[int, Pair]] = []
        today = jst_day(self._bench.clock.wall())
        newest = first_slot_of(today) + 47
        for last in range(newest, newest - 48 * (DAYS_BACK + 1), -12):
            (told,) = await self._ask(0xED, _instant(last * HALF_HOUR_S, 12), 0xEC)
            values = _energies(told[7:])
            found += [(last - i, (values[2 * i], values[2 * i + 1])) for i in range(12)]
        return found

    async def _last_boundary(self, expected: Callable[[int], Pair]) -> None:
        """EA and EB, the values that are announced, too."""
        for code, direction in ((0xEA, 0), (0xEB, 1)):
            told = await self.terminal.get(code)
            (energy,) = _energies(told[7:])
            assert energy == expected(slot_at(_at(told)))[direction]

    async def _minutes(self, since: int) -> None:
        """D0 and EE: the last hour's minutes, of which none is older, either."""
        now = int(self._bench.clock.wall() // 60)
        last = await self.terminal.get(0xD0)
        if _at(last) < since * HALF_HOUR_S:
            assert _energies(last[7:]) == [None, None]
        for newest in range(now, now - 60, -10):
            (told,) = await self._ask(0xEF, _instant(newest * 60.0, 10), 0xEE)
            values = _energies(told[7:])
            for back in range(10):
                if (newest - back) * 60 < since * HALF_HOUR_S:
                    assert values[2 * back : 2 * back + 2] == [None, None]

    async def _ask(self, code: int, choice: bytes, *wanted: int) -> list[bytes]:
        """Set a property and get others in one request (SetGet), so that nothing is between."""
        self._tid += 1
        if self._tid % _UNHURRIED == 0:
            await self._bench.advance(_PAUSE_S)
        tid = self._tid.to_bytes(2, "big")
        setting = bytes((_SET_GET, 1, code, len(choice))) + choice
        getting = bytes((len(wanted),)) + b"".join(bytes((each, 0)) for each in wanted)
        data = b"\x10\x81" + tid + _CONTROLLER_TO_METER + setting + getting
        self.terminal.write(f"SKSENDTO 1 {self.peer} 0E1A 1 {len(data):04X} ".encode() + data)
        answer = await self.terminal.until(
            lambda line: isinstance(line, Rx) and line.payload[2:4] == tid
        )
        assert isinstance(answer, Rx)
        assert answer.payload[10:14] == bytes((_SET_GET_RES, 1, code, 0))
        return list(_properties(answer.payload[15:]))

    def _shown(self, dwh: int | None) -> int | None:
        return None if dwh is None else dwh // self._unit_dwh % self._modulus


def _properties(rest: bytes) -> Iterator[bytes]:
    while rest:
        size = rest[1]
        yield rest[2 : 2 + size]
        rest = rest[2 + size :]


def _energies(data: bytes) -> list[int | None]:
    """None where the meter has, or tells, no value."""
    values = [each for (each,) in struct.iter_unpack(">I", data)]
    return [None if each == _NO_ENERGY else each for each in values]


def _at(told: bytes) -> float:
    """UTC seconds of the instant in front of a value."""
    year, month, day, hour, minute, second = struct.unpack(">HBBBBB", told[:7])
    return datetime(year, month, day, hour, minute, second, tzinfo=JST).timestamp()


def _instant(at: float, count: int) -> bytes:
    moment = jst(at)
    return _INSTANT.pack(moment.year, moment.month, moment.day, moment.hour, moment.minute, count)


def free_lab(folder: Path) -> Lab:
    """Keys for everybody; no broker runs, so that nothing comes but by hand."""
    return Lab.create(folder / "lab", broker_port=1)


def midnight_after(day: date) -> int:
    """The boundary at which the day after begins."""
    return first_slot_of(day + timedelta(days=1))
