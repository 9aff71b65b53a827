"""The scenario file: its sections, and errors that name the place and the nearest right word.

Times are durations as everywhere (``"10s"``, ``"1h30m"``), on the bench's clock. What a step does
is :mod:`~meter_runtime.bench.scenario.steps`'s to carry out, what an expectation means
:mod:`~meter_runtime.bench.scenario.expectations`'s to judge.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from meter_runtime.aroute.commands import COMMANDS, PROOF_KEY_BYTES, parse_arguments
from meter_runtime.bench.happenings import KINDS
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.bench.options import BenchOptions, EchonetProfile, Pace, instant
from meter_runtime.duration import parse_duration
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.secret import Secret
from meter_runtime.tables import read_table
from meter_runtime.units.contracts import Wiring

MAX_HISTORY_DAYS = 41
MAX_STEPS = 500
DEFAULT_WITHIN = "60s"
_AT_THE_METER = "127.0.0.1:0"
"""Where the meter's local port listens, to somebody who is always there."""

Value = str | int | float | bool


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the file."""


class BenchPart(_Part, frozen=True):
    """``[bench]``: the room, the meter and the house, as the options of ``meter-runtime bench``."""

    modules: tuple[str, ...] = ("bp35a1",)
    meter_module: str = "bp35a1"
    air: Pace = "fast"
    seed: int = 1
    start: datetime | None = None
    """When the meter begins to serve; JST where it does not say otherwise."""
    history: Annotated[int, msgspec.Meta(ge=0, le=MAX_HISTORY_DAYS)] = 0
    load: str | None = None
    """A load profile, beside the scenario."""
    pv_kw: Annotated[float, msgspec.Meta(ge=0, le=100)] = 4.0
    profile: EchonetProfile = "aif-1.01"
    wiring: Literal["1P2W", "1P3W", "3P3W"] = "1P3W"
    units: str | None = None
    """A file of the units that are plugged in, beside the scenario; then ``wiring`` and
    ``one_way`` say nothing."""
    one_way: bool = False
    notification: Literal["inf", "infc"] = "inf"
    route_b_id: str | None = None
    password: Secret | None = None


class HemsPart(_Part, frozen=True):
    """``[hems]``: who reads the meter, on the first module, or by its PLC adapter."""

    kind: Literal["momonga", "command", "plc", "none"] = "none"
    command: list[str] = []
    """Words of a command; ``{tty}``, ``{route_b_id}`` and ``{python}`` are filled in. The password
    is in the environment variable ROUTE_B_PASSWORD."""
    route_b_id: str | None = None
    """What the HEMS believes, where that is not the truth."""
    password: Secret | None = None
    start: Literal["at-once", "by-step"] = "at-once"


class Step(_Part, frozen=True):
    """``[[step]]``: when, then what. ``do`` decides which of the other keys there may be."""

    do: str
    name: str | None = None
    at: str | None = None
    """``+10s``: not before so long after the scenario's begin."""
    when: str | None = None
    """Not before this happens, after the step before began."""
    where: dict[str, Value] = {}
    """Details which that happening must have."""
    within: str = DEFAULT_WITHIN
    """How long ``when`` is waited for."""
    after: str | None = None
    """A pause before it is done."""
    # Of single actions:
    fault: str | None = None
    command: str | None = None
    for_: str | None = msgspec.field(default=None, name="for")
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    with_: dict[str, Value] = msgspec.field(default={}, name="with")
    by: str | None = None
    to: str | None = None


class Expectation(_Part, frozen=True):
    """``[[expect]]``: what must happen, how often, and until when."""

    what: str
    where: dict[str, Value] = {}
    """Details it must have; ``*`` and ``?`` stand for anything."""
    since: str | None = None
    """A step's name or a happening from which it counts; the begin where absent."""
    within: str | None = None
    """Until when; the scenario's end where absent."""
    never: bool = False
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Exactly so often; at least once where absent."""
    at_least: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Scenario(_Part, frozen=True):
    """The whole file."""

    title: str
    about: str = ""
    patience: str = DEFAULT_WITHIN
    """How long, after the last step, what is still expected is waited for."""
    bench: BenchPart = BenchPart()
    hems: HemsPart = HemsPart()
    step: Annotated[list[Step], msgspec.Meta(max_length=MAX_STEPS)] = []
    expect: Annotated[list[Expectation], msgspec.Meta(max_length=MAX_STEPS)] = []


ACTIONS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "inject": (frozenset({"fault"}), frozenset({"for", "count", "with"})),
    "clear": (frozenset(), frozenset({"fault"})),
    "advance": (frozenset(), frozenset({"by", "to"})),
    "clock-step": (frozenset({"by"}), frozenset()),
    "clock-set": (frozenset({"to"}), frozenset()),
    "wait": (frozenset({"for"}), frozenset()),
    "start-hems": (frozenset(), frozenset({"with"})),
    "stop-hems": (frozenset(), frozenset()),
    "command": (frozenset({"command"}), frozenset({"with"})),
}
"""What a step can do: the keys it needs, and the keys it may have."""

HEMS_BELIEVES = ("route_b_id", "password")
"""What a HEMS may be told when it is started."""

_OF_ACTIONS = frozenset().union(*(needs | may for needs, may in ACTIONS.values()))


def load(path: Path) -> Scenario:
    """Read and check a file; :class:`UsageError` names the first mistake in it."""
    table = read_table(path, "no such scenario; name a TOML file")
    try:
        _check_table(table)
        scenario = msgspec.convert(table, Scenario, dec_hook=_secret)
        _check(scenario)
        bench_options(scenario, path.parent)
    except msgspec.ValidationError as wrong:
        raise UsageError(f"{path}: {_explain(str(wrong))}") from None
    except UsageError as wrong:
        raise UsageError(f"{path}: {wrong}") from None
    return scenario


def bench_options(scenario: Scenario, folder: Path) -> BenchOptions:
    """The laboratory it wants; ``folder`` is where its files lie."""
    part = scenario.bench
    for module in (*part.modules, part.meter_module):
        parse_module_option(module)
    if not part.modules:
        raise UsageError("[bench] modules is empty; a HEMS needs one")
    options = BenchOptions(
        local=_AT_THE_METER,
        presence=True,
        hems_modules=part.modules,
        meter_module=part.meter_module,
        air=part.air,
        seed=part.seed,
        route_b_id=part.route_b_id,
        password=part.password,
        load=None if part.load is None else folder / part.load,
        pv_kw=part.pv_kw,
        history_days=part.history,
        echonet_profile=part.profile,
        wiring=Wiring(part.wiring),
        units=None if part.units is None else folder / part.units,
        two_way=not part.one_way and part.wiring != "1P2W",
        notification=part.notification,
        start=None if part.start is None else instant(part.start, "[bench] start"),
    )
    options.credentials()
    return options


def with_proof_key(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a person gave, and a random key where the command wants one."""
    wanted = "proof_key" in COMMANDS[name].arguments.__struct_fields__
    proof_key = {"proof_key": secrets.token_bytes(PROOF_KEY_BYTES)} if wanted else {}
    return {**arguments, **proof_key}


def time_of_day(given: str, place: str) -> time:
    """``HH:MM`` or ``HH:MM:SS``, JST."""
    try:
        return time.fromisoformat(given)
    except ValueError:
        raise UsageError(f'{place}: "{given}" is no time of day; write 23:59:58') from None


def signed_duration(given: str, place: str) -> float:
    """A duration that may go back: ``-40s``."""
    seconds = duration(given.removeprefix("-"), place)
    return -seconds if given.startswith("-") else seconds


def duration(given: str, place: str) -> float:
    """Seconds of ``10s``, ``1h30m``."""
    try:
        return parse_duration(given)
    except UsageError as wrong:
        raise UsageError(f"{place}: {wrong}") from None


def _check(scenario: Scenario) -> None:
    """What a type cannot say."""
    duration(scenario.patience, "patience")
    hems = scenario.hems
    if (hems.kind == "command") != bool(hems.command):
        raise UsageError('[hems] command goes with kind = "command", and only with it')
    names: set[str] = set()
    for number, step in enumerate(scenario.step, 1):
        place = f"step {number} ({step.do})"
        _check_step(step, place)
        if step.name is not None:
            if step.name in names or step.name in KINDS:
                raise UsageError(f'{place}: the name "{step.name}" is taken; choose another')
            names.add(step.name)
    for number, expected in enumerate(scenario.expect, 1):
        place = f"expectation {number} ({expected.what})"
        _known_kind(expected.what, place)
        if expected.since is not None and expected.since not in names:
            known = [*names, *KINDS]
            if expected.since not in KINDS:
                raise UsageError(
                    f'{place}: since "{expected.since}" is no step\'s name and no happening;'
                    f" {nearest(expected.since, known)}"
                )
        if expected.within is not None:
            duration(expected.within, f"{place} within")
        if sum((expected.never, expected.count is not None, expected.at_least is not None)) > 1:
            raise UsageError(f"{place}: never, count and at_least exclude each other; keep one")


def _check_step(step: Step, place: str) -> None:
    if step.at is not None:
        if not step.at.startswith("+"):
            raise UsageError(f'{place}: at "{step.at}" counts from the begin; write +{step.at}')
        duration(step.at[1:], f"{place} at")
    if step.when is not None:
        _known_kind(step.when, f"{place} when")
    for key, given in (("within", step.within), ("after", step.after), ("for", step.for_)):
        if given is not None:
            duration(given, f"{place} {key}")
    match step.do:
        case "advance":
            if (step.by is None) == (step.to is None):
                raise UsageError(f"{place}: give either by (a duration) or to (a time of day)")
            if step.by is not None:
                duration(step.by, f"{place} by")
            if step.to is not None:
                time_of_day(step.to, f"{place} to")
        case "clock-step":
            signed_duration(step.by or "", f"{place} by")
        case "clock-set":
            instant(step.to or "", f"{place} to")
        case "inject" | "clear" if step.fault is not None:
            _check_fault(step, place)
        case "start-hems":
            for key, told in step.with_.items():
                if key not in HEMS_BELIEVES:
                    near = nearest(key, HEMS_BELIEVES)
                    raise UsageError(f'{place}: no HEMS is told a "{key}"; {near}')
                if not isinstance(told, str):
                    raise UsageError(f"{place}: {key} is a text; put it in quotes")
        case "command":
            _check_command(step, place)


def _check_command(step: Step, place: str) -> None:
    name = step.command or ""
    if name not in COMMANDS:
        raise UsageError(f'{place}: no command is called "{name}"; {nearest(name, COMMANDS)}')
    try:
        parse_arguments(COMMANDS[name], with_proof_key(name, step.with_))
    except MeterError as wrong:
        raise UsageError(f"{place} with: {wrong}") from None


def _check_fault(step: Step, place: str) -> None:
    # Here, not above: the catalogue reaches all of the laboratory.
    from meter_runtime.bench.faults import catalogue
    from meter_runtime.bench.faults.parameters import checked

    name = step.fault or ""
    try:
        fault = catalogue.find(name)
        checked(name, fault.parameters, step.with_)
    except UsageError as wrong:
        raise UsageError(f"{place}: {wrong}") from None


def _known_kind(kind: str, place: str) -> None:
    if kind not in KINDS:
        raise UsageError(
            f'{place}: nothing that happens is called "{kind}"; {nearest(kind, KINDS)}'
        )


def _secret(_kind: type, value: Any) -> Secret:
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Secret(value)


# Keys first, so that a slip of the pen is told by the nearest right one.


def _check_table(table: Mapping[str, Any]) -> None:
    _check_keys(table, Scenario, "the file")
    for key, kind in (("bench", BenchPart), ("hems", HemsPart)):
        if isinstance(part := table.get(key), dict):
            _check_keys(part, kind, f"[{key}]")
    for number, step in enumerate(_tables(table, "step"), 1):
        if "do" not in step:
            raise UsageError(f"step {number} does nothing; give it a do: {', '.join(ACTIONS)}")
        _check_keys(step, Step, f"step {number} ({step['do']})")
        _check_action(step, f"step {number}")
    for number, expected in enumerate(_tables(table, "expect"), 1):
        if "what" not in expected:
            raise UsageError(f'expectation {number} lacks the key "what"; add it')
        _check_keys(expected, Expectation, f"expectation {number} ({expected['what']})")


def _tables(table: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    entries = table.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f'"{key}" is a list; write [[{key}]] above each')
    return entries


def _check_keys(table: Mapping[str, Any], kind: type[msgspec.Struct], place: str) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in fields:
            raise UsageError(f'{place} has no key "{key}"; {nearest(key, fields)}')
    for name, field in fields.items():
        if name not in table:
            if field.required:
                raise UsageError(f'{place} lacks the key "{name}"; add it')
        elif get_origin(field.type) is Literal and table[name] not in get_args(field.type):
            choice = nearest(str(table[name]), get_args(field.type))
            raise UsageError(f'{place} {name}: "{table[name]}" is not one of its values; {choice}')


def _check_action(step: Mapping[str, Any], place: str) -> None:
    do = step["do"]
    if not isinstance(do, str) or do not in ACTIONS:
        raise UsageError(f'{place}: nothing can be done that is called "{do}"; {_action(do)}')
    needs, may = ACTIONS[do]
    for key in sorted(needs - step.keys()):
        raise UsageError(f'{place} ({do}) lacks the key "{key}"; add it')
    for key in step:
        if key in _OF_ACTIONS and key not in needs | may:
            raise UsageError(
                f'{place}: "{do}" takes no "{key}"; {nearest(key, needs | may or ["none"])}'
            )


def _action(do: object) -> str:
    return nearest(str(do), ACTIONS)


def _explain(message: str) -> str:
    """Turn msgspec's ``what - at `$.section.key` `` into ``section.key: what``."""
    what, _, where = message.partition(" - at `$")
    what = what[:1].lower() + what[1:].replace("`", "")
    place = where.rstrip("`").lstrip(".")
    return f"{place}: {what}" if place else what
