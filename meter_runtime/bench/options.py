"""How a bench is set up: every choice of `meter-runtime bench`, with its default."""

import random
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from meter_runtime.comm.contracts import LinkCredentials
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
    wiring: Wiring = Wiring.ONE_PHASE_THREE_WIRE
    two_way: bool = True
    notification: Literal["inf", "infc"] = "inf"
    state_dir: Path | None = None
    """Kept between runs; None is a temporary directory that goes with the bench."""
    tty_dir: Path | None = None
    control: Path | None = None
    ready_file: Path | None = None
    hems: bool = field(default=False)
    """Run momonga as the HEMS on the first module."""

    def credentials(self) -> LinkCredentials:
        """The given ID and password, or the seed's."""
        rng = random.Random(f"credentials {self.seed}")
        drawn_id = "".join(rng.choices("0123456789ABCDEF", k=32))
        drawn_password = "".join(rng.choices(string.ascii_uppercase + string.digits, k=12))
        return LinkCredentials(
            self.route_b_id.upper() if self.route_b_id is not None else drawn_id,
            self.password if self.password is not None else Secret(drawn_password),
        )
