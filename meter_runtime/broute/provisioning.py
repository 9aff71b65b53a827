"""The service to the home as the utility begins, rewrites and ends it.

Stored first, in one write of the vault, and then brought about: whatever fails or is cut off
behind the write, the next start serves by what is stored.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from meter_runtime.broute.credential_store import CredentialStore
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CredentialsChanged:
    """The utility began or rewrote the service to the home, or ended it; it is stored."""

    version: int
    served: bool


class Provisioning:
    """Whom one meter serves.

    ``store`` is None where the vault cannot be used. ``changed`` brings about what was stored, or
    with None that nobody is served; ``report`` is the ``broute`` part of the status document.
    """

    def __init__(
        self,
        store: CredentialStore | None,
        changed: Callable[[BRouteCredentials | None], Awaitable[None]],
        report: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._store = store
        self._changed = changed
        self.report = report

    @property
    def version(self) -> int:
        """How often what is in force was stored; 0: never, or nobody can tell."""
        return 0 if self._store is None else self._store.version

    @property
    def counter(self) -> int:
        """Of the command that set or revoked what is in force; 0 where none did."""
        record = None if self._store is None else self._store.current()
        return 0 if record is None else record.counter

    @property
    def current(self) -> BRouteCredentials | None:
        """Those in force; None while nobody is to be served."""
        record = None if self._store is None else self._store.current()
        return None if record is None else record.credentials

    @property
    def credentials(self) -> LinkCredentials | None:
        """ID and password in force."""
        current = self.current
        return None if current is None else current.link

    @property
    def accepted_on(self) -> date | None:
        """First JST day whose history is served; None without a limit, or without a service."""
        current = self.current
        return None if current is None else current.accepted_on

    async def provision(
        self, credentials: LinkCredentials, accepted_on: date | None, counter: int
    ) -> None:
        """Store ID, password and acceptance day in one step, and let the home join anew.

        ``counter`` is that of the command that says so. Raises MeterError when they cannot be
        stored: those before then stand.
        """
        await self._rewrite(BRouteCredentials(credentials, accepted_on), counter)

    async def revoke(self, counter: int) -> None:
        """Store that nobody is served any more, and end the session. Raises as above."""
        await self._rewrite(None, counter)

    async def _rewrite(self, credentials: BRouteCredentials | None, counter: int) -> None:
        if self._store is None:
            raise MeterError("the vault cannot be used; see the log of the meter's start")
        self._store.rewrite(credentials, counter)
        done = "revoked" if credentials is None else "rewritten"
        log.info("the B-route credentials were %s: version %d", done, self._store.version)
        try:
            await self._changed(credentials)
        except MeterError as failure:
            log.error("the credentials are stored, and not in use yet: %s", failure)
