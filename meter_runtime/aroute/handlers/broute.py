"""Commands about the service to the home: begin it, rewrite its password, end it, tell of it.

Each is one write of the vault, and what is stored is what the result tells: that the home cannot be
reached by radio just now does not make a stored password any less the right one.
"""

from collections.abc import Mapping
from typing import Any

from meter_runtime.aroute.commands import (
    BadArgumentsError,
    Code,
    RewritePassword,
    SetCredentials,
)
from meter_runtime.aroute.gate import Outcome
from meter_runtime.aroute.handlers.ports import BRouteControl
from meter_runtime.aroute.results import proof_of
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import UsageError
from meter_runtime.secret import Secret

COUNTERS = (
    "AuthOk",
    "AuthFailed",
    "SessionExpired",
    "starts",
    "faults",
    "rx",
    "tx",
    "tx_failed",
    "tx_restricted",
)
"""Those of the link that are told: what an operator asks for when a home has trouble."""

_TOLD = (
    "in_service",
    "message",
    "items",
    "undefined_combination",
    "alarm",
    "expected",
    "medium",
    "link",
    "session",
    "set_again",
    "failed_joins",
    "signal",
)


async def set_credentials(broute: BRouteControl, said: SetCredentials, counter: int) -> Outcome:
    """Whoever was served before is not served any more, and its history is not told."""
    credentials = _credentials(said.id, said.password)
    await broute.provision(credentials, said.accepted_on, counter)
    return Outcome(Code.OK)


async def rewrite_password(broute: BRouteControl, said: RewritePassword, counter: int) -> Outcome:
    """The ID stays, and the acceptance day where no other is given."""
    present = broute.credentials
    if present is None:
        return Outcome(Code.NOT_PERMITTED, {"reason": "not in service"})
    credentials = _credentials(present.route_b_id, said.password)
    accepted_on = broute.accepted_on if said.accepted_on is None else said.accepted_on
    await broute.provision(credentials, accepted_on, counter)
    return Outcome(Code.OK)


async def revoke(broute: BRouteControl, counter: int) -> Outcome:
    """Stored also where nobody is served: an older command to serve somebody is then stale."""
    await broute.revoke(counter)
    return Outcome(Code.OK)


def proof(broute: BRouteControl, said: SetCredentials | RewritePassword) -> bytes | None:
    """Of what would be stored; None where nothing can be."""
    present = broute.credentials
    try:
        if isinstance(said, SetCredentials):
            return proof_of(said.proof_key, _credentials(said.id, said.password))
        if present is None:
            return None
        return proof_of(said.proof_key, _credentials(present.route_b_id, said.password))
    except BadArgumentsError:
        return None


def status(broute: BRouteControl) -> Outcome:
    """The diagnosis, causes by their codes, and why nobody is served.

    ``provisioned``: there are credentials, whether they can be served or not.
    """
    report = broute.report()
    counters: Mapping[str, int] = report.get("counters", {})
    told: dict[str, Any] = {name: report[name] for name in _TOLD if name in report}
    accepted_on, why_not = broute.accepted_on, report.get("why_not")
    if why_not is not None:
        told["why_not"] = [why_not["code"], *why_not["findings"]]
    return Outcome(
        Code.OK,
        {
            **told,
            "causes": [cause["code"] for cause in report.get("causes", ())],
            "provisioned": broute.credentials is not None,
            "accepted_on": None if accepted_on is None else accepted_on.isoformat(),
            "counters": {name: counters[name] for name in COUNTERS if name in counters},
        },
    )


def _credentials(route_b_id: str, password: Secret) -> LinkCredentials:
    try:
        return LinkCredentials(route_b_id, password)
    except UsageError as wrong:
        raise BadArgumentsError(str(wrong)) from None
