"""What a terminal reads at the local port: how meter and service do, and nothing about the home.

Only what is named here is told, so that a report that grows tells nobody more than it should:
neither energy nor power, no history, no ID, no password, no address of a device.
"""

from collections.abc import Mapping
from typing import Any

from meter_runtime import __version__
from meter_runtime.clock import Clock, jst

BROUTE = (
    "in_service",
    "why_not",
    "message",
    "text",
    "text_ja",
    "items",
    "undefined_combination",
    "alarm",
    "expected",
    "expected_because",
    "expected_until",
    "causes",
    "medium",
    "failed_joins",
    "signal",
    "recent",
)
"""Of the B-route's report."""


def local_status(
    meter_id: str, clock: Clock, broute: Mapping[str, Any], inventory: Mapping[str, Any]
) -> dict[str, Any]:
    """The document: ``broute`` as in the status document, units and findings as inventory.get."""
    return {
        "meter_id": meter_id,
        "version": __version__,
        "clock": {
            "now": jst(clock.wall()).isoformat(timespec="seconds"),
            "trust": clock.trust.value,
        },
        "broute": {name: broute[name] for name in BROUTE if name in broute},
        "units": inventory["units"],
        "findings": inventory["findings"],
    }
