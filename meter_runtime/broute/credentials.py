"""What the utility provisioned for the home: ID, password and the day it was accepted.

The acceptance day is part of the record, because nothing from before it may be served (terms of
service, article 12 (3)): whoever changes the password changes the day in the same step, or the
last tenant's history leaks.
"""

from dataclasses import dataclass
from datetime import date

from meter_runtime.comm.contracts import LinkCredentials


@dataclass(frozen=True, slots=True)
class BRouteCredentials:
    """One customer's access to this meter."""

    link: LinkCredentials
    accepted_on: date | None = None
    """First JST day whose history is served; None when no limit was given."""
