"""Faults of the air: what becomes of frames between a HEMS's module and everybody else."""

import random
from typing import TYPE_CHECKING

from meter_runtime.bench.air import Fate, Frame, UdpDatagram
from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.parameters import Choice, Number, Parameter, Seconds, module
from meter_runtime.comm.auth.pana_message import PANA_PORT
from meter_runtime.comm.contracts import ECHONET_LITE_PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from meter_runtime.bench.laboratory import Bench

_PORTS = {"pana": PANA_PORT, "echonet": ECHONET_LITE_PORT}

_DIRECTION = Parameter(
    "direction", Choice(("both", "up", "down")), "both", "up is from the module, down is to it"
)
_TRAFFIC = Parameter("traffic", Choice(("all", "pana", "echonet")), "all", "which frames")


def _rate(default: float) -> Parameter:
    return Parameter("rate", Number(0, 1), default, "share of the frames it befalls")


def _impair(bench: "Bench", active: Active, fate: "Callable[[random.Random], Fate]") -> End:
    """Let the chosen share of the chosen frames meet this fate."""
    values = active.values
    mac = bench.dongle(values["module"]).module.mac
    port = _PORTS.get(values["traffic"])
    up, down = values["direction"] != "down", values["direction"] != "up"

    def impairment(frame: Frame, receiver: bytes | None, rng: random.Random) -> Fate:
        chosen = (up and frame.source == mac) or (down and receiver == mac)
        if port is not None:
            body = frame.body
            chosen = chosen and isinstance(body, UdpDatagram) and body.destination_port == port
        if not chosen or rng.random() >= values["rate"] or not active.strike():
            return Fate()
        return fate(rng)

    bench.air.impairments.append(impairment)
    return lambda: bench.air.impairments.remove(impairment)


def _loss(bench: "Bench", active: Active) -> End:
    return _impair(bench, active, lambda _: Fate(lost=True))


def _delay(bench: "Bench", active: Active) -> End:
    seconds = active.values["seconds"]
    return _impair(bench, active, lambda _: Fate(delay_s=seconds))


def _duplicate(bench: "Bench", active: Active) -> End:
    copies = active.values["copies"]
    return _impair(bench, active, lambda _: Fate(copies=copies))


def _reorder(bench: "Bench", active: Active) -> End:
    within = active.values["within"]
    return _impair(bench, active, lambda rng: Fate(delay_s=rng.uniform(0.0, within)))


def _attenuate(bench: "Bench", active: Active) -> End:
    mac = bench.dongle(active.values["module"]).module.mac
    everybody = [dongle.module.mac for dongle in bench.dongles.values()]
    others = [other for other in everybody if other != mac]

    def put(db: float) -> None:
        for other in others:
            bench.air.set_attenuation(mac, other, db)

    put(active.values["db"])
    return lambda: put(0.0)


def _noise(bench: "Bench", active: Active) -> End:
    return bench.air.noise_burst(active.values["db"])


def _out_of_range(bench: "Bench", active: Active) -> End:
    mac = bench.dongle(active.values["module"]).module.mac

    def impairment(frame: Frame, receiver: bytes | None, _rng: random.Random) -> Fate:
        return Fate(lost=mac in (frame.source, receiver))

    bench.air.impairments.append(impairment)
    return lambda: bench.air.impairments.remove(impairment)


FAULTS = (
    Fault(
        "loss",
        "air",
        "Frames do not arrive: distance, a passer-by, a microwave oven.",
        _loss,
        (module(), _rate(0.2), _DIRECTION, _TRAFFIC),
        counts="frames",
    ),
    Fault(
        "delay",
        "air",
        "Frames arrive late.",
        _delay,
        (
            module(),
            Parameter("seconds", Seconds(0.001, 600), "1s", "how late"),
            _rate(1),
            _DIRECTION,
            _TRAFFIC,
        ),
        counts="frames",
    ),
    Fault(
        "duplicate",
        "air",
        "Frames arrive more than once: an acknowledgement was lost, and the sender tried again.",
        _duplicate,
        (
            module(),
            Parameter("copies", Number(2, 10, whole=True), 2, "how often"),
            _rate(1),
            _DIRECTION,
            _TRAFFIC,
        ),
        counts="frames",
    ),
    Fault(
        "reorder",
        "air",
        "Frames overtake each other.",
        _reorder,
        (
            module(),
            Parameter("within", Seconds(0.001, 60), "500ms", "the longest delay"),
            _rate(0.5),
            _DIRECTION,
            _TRAFFIC,
        ),
        counts="frames",
    ),
    Fault(
        "attenuate",
        "air",
        "The way between the module and the meter weakens: a door, a shutter, rain.",
        _attenuate,
        (
            module(),
            Parameter("db", Number(0, 200, "dB"), 43, "of the way; the link has 43 to lose"),
        ),
    ),
    Fault(
        "noise",
        "air",
        "Something near makes noise on the band.",
        _noise,
        (
            Parameter(
                "db", Number(1, 100, "dB"), 40, "rise; from 20 on nobody finds a pause to send"
            ),
        ),
    ),
    Fault(
        "out-of-range",
        "air",
        "The HEMS is carried out of reach, and back by clear.",
        _out_of_range,
        (module(),),
    ),
)
