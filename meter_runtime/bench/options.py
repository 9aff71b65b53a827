"""How a bench is set up: every choice of `meter-runtime bench`, with its default."""

import random
import string
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from meter_runtime.clock import JST
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import UsageError
from meter_runtime.secret import Secret
from meter_runtime.units.contracts import Wiring

Pace = Literal["fast", "real"]
EchonetProfile = Literal["kansai", "aif-1.01", "aif-1.10"]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """One virtual laboratory: a meter, its home's modules, and the household behind it."""

    hems_modules: tuple[str, ...] = ("bp35a1",)
    """Module options, ``profile[:key=value,…]``, one per HEMS."""
    meter_module: str = "bp35a1"
    air: Pace = "fast"
    seed: int = 1
    route_b_id: str | None = None
    """32 hex digits; None draws one from the seed."""
    password: Secret | None = None
    """12 letters and digits; None draws one from the seed."""
    load: Path | None = None
    """CSV load profile instead of the household model."""
    pv_kw: float = 4.0
    """Photovoltaic peak power of the household model; 0 for none."""
    history_days: int = 0
    """Days of history measured before the bench serves, from 00:00 JST of the first one."""
    echonet_profile: EchonetProfile = "aif-1.01"
    units: Path | None = None
    """A file of the units that are plugged in; then ``wiring`` and ``two_way`` say nothing."""
    wiring: Wiring = Wiring.ONE_PHASE_THREE_WIRE
    two_way: bool = True
    notification: Literal["inf", "infc"] = "inf"
    start: datetime | None = None
    """When the meter begins to serve; None is now. A kept state goes on from its own time."""
    mqtt: str | None = None
    """URL of a broker; None is the laboratory's, or else one inside the bench."""
    lab: Path | None = None
    """A laboratory's folder (``meter-runtime keys init``); None makes throw-away keys."""
    local: str | None = None
    """Where the meter's local port listens, ``ADDRESS:PORT``; None: it has none."""
    presence: bool = False
    """Somebody always stands at the meter: its local port needs no button."""
    state_dir: Path | None = None
    """Kept between runs; None is a temporary directory that goes with the bench."""
    tty_dir: Path | None = None
    control: Path | None = None
    ready_file: Path | None = None
    capture: Path | None = None
    """Write what crosses the air here, as pcapng."""
    trace: Path | None = None
    """Write what crosses wires and air, and what happens, here, as JSON lines."""
    hems: bool = field(default=False)
    """Run momonga as the HEMS on the first module."""

    @property
    def meter_id(self) -> str:
        return f"BENCH-{self.seed}"

    def credentials(self) -> LinkCredentials:
        """The given ID and password, or the seed's."""
        rng = random.Random(f"credentials {self.seed}")
        drawn_id = "".join(rng.choices("0123456789ABCDEF", k=32))
        drawn_password = "".join(rng.choices(string.ascii_uppercase + string.digits, k=12))
        return LinkCredentials(
            self.route_b_id.upper() if self.route_b_id is not None else drawn_id,
            self.password if self.password is not None else Secret(drawn_password),
        )


def instant(given: str | datetime, place: str) -> datetime:
    """A date and time, JST where it names no offset; ``place`` is where a person wrote it."""
    try:
        moment = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except ValueError:
        raise UsageError(
            f'{place}: "{given}" is no date and time; write 2026-11-22T23:58:00+09:00'
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=JST)
