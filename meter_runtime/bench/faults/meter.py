"""Faults of the whole meter: power lost, unit replaced, credentials rewritten."""

import random
import string
from typing import TYPE_CHECKING

from meter_runtime.bench.faults.fault import Active, End, Fault
from meter_runtime.bench.faults.parameters import Parameter, Password, Seconds, Word
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.clock import jst_day
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.secret import Secret

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

_DOWN = Parameter("down", Seconds(0, 86_400), "1s", "how long it has no power")
_PASSWORD_LENGTH = 12


def _reboot(bench: "Bench", active: Active) -> None:
    active.spawn(bench.reboot(active.values["down"]))


def _replaced(bench: "Bench", active: Active) -> None:
    active.spawn(bench.replace_unit(active.values["down"]))


def _rewrite(bench: "Bench", active: Active) -> End:
    before = bench.broute_credentials
    values = active.values
    rng = random.Random(f"rewrite {bench.options.seed}")
    letters = string.ascii_uppercase + string.digits
    drawn = Secret("".join(rng.choices(letters, k=_PASSWORD_LENGTH)))
    link = LinkCredentials(values["id"] or before.link.route_b_id, values["password"] or drawn)
    today = jst_day(bench.clock.wall())
    active.spawn(bench.set_credentials(BRouteCredentials(link, today)))
    return lambda: active.spawn(bench.set_credentials(before))


FAULTS = (
    Fault(
        "reboot",
        "meter",
        "The meter loses power mid-session and comes back: nobody is told, the session is gone.",
        _reboot,
        (_DOWN,),
        momentary=True,
    ),
    Fault(
        "replaced",
        "meter",
        "The metering unit is replaced: another serial number, other registers, no history.",
        _replaced,
        (_DOWN,),
        momentary=True,
    ),
    Fault(
        "rewrite",
        "meter",
        "The utility rewrites the credentials mid-session; clear writes the old ones back.",
        _rewrite,
        (
            Parameter("password", Password(), None, "the new password (drawn from the seed)"),
            Parameter("id", Word("[0-9A-F]{32}", "32 hex digits", upper=True), None, "the new ID"),
        ),
    ),
)
