"""What ``broute.status`` answers fits into a result, however much there is to tell."""

from datetime import date
from typing import Any

import pytest

from meter_runtime.aroute.cbor import encode
from meter_runtime.aroute.handlers import broute
from meter_runtime.aroute.results import MAX_DETAILS_BYTES
from meter_runtime.broute.diagnosis import NotServed, OutOfService
from meter_runtime.broute.status import LinkStatus, Moment
from meter_runtime.comm.contracts import AuthFailed, AuthOk, LinkCredentials, LinkStarted
from meter_runtime.secret import Secret
from meter_runtime.units.findings import codes

HOME = "FE80:0000:0000:0000:021D:1290:1234:5678"
AT = Moment(1000.0, 1_795_316_400.0)
COUNTERS = dict.fromkeys((*broute.COUNTERS, "something_else"), 2**64 - 1)


class Desk:
    """A service to the home with this to report."""

    version = counter = 2**64 - 1
    credentials = LinkCredentials("0" * 32, Secret("ABCDEFGHIJ12"))
    accepted_on = date(2026, 11, 22)

    def __init__(self, report: dict[str, Any]) -> None:
        self._report = report

    def report(self) -> dict[str, Any]:
        return self._report

    async def provision(self, *_: object) -> None: ...

    async def revoke(self, counter: int) -> None: ...


def troubled() -> dict[str, Any]:
    """Everything that can be told at once."""
    link = LinkStatus()
    link.begin(AT)
    link.follow(LinkStarted(HOME, "channel 60, PAN FFFF"), AT)
    link.follow(AuthOk(HOME, 86_400), AT)
    link.grace.begin(AT)
    for _ in range(1000):
        link.follow(AuthFailed(HOME), AT)
        link.heard(HOME, -104.27, AT)
    return {"in_service": True, **link.report(AT.now, "920MHz"), "counters": COUNTERS}


@pytest.mark.parametrize(
    "report", [troubled(), OutOfService(NotServed.COMBINATION, tuple(codes())).report()]
)
def test_the_most_that_can_be_told_fits(report: dict[str, Any]) -> None:
    assert len(encode(broute.status(Desk(report)).details)) <= MAX_DETAILS_BYTES


def test_causes_and_reasons_are_told_as_codes() -> None:
    told = broute.status(Desk(troubled())).details
    assert told["causes"] == ["former_credentials", "wrong_password"]
    assert (told["alarm"], told["expected"], told["failed_joins"]) == (False, True, 1000)
    assert told["signal"]["mean_dbm"] == -104.3
    assert "why_not" not in told
    revoked = broute.status(Desk(OutOfService(NotServed.REVOKED).report())).details
    assert revoked["why_not"] == ["revoked"]
