"""Where the B-route credentials are kept, and when the configuration's take their place.

The utility rewrites credentials remotely, while a configuration file goes on saying what was true
when it was written. So a configuration is taken over once: when nothing is stored yet, and when it
was edited since. Which one was seen last is remembered as a keyed hash, which tells nobody the
password.
"""

import hmac
import logging

from meter_runtime.broute.credentials import (
    MARK_SIZE,
    NO_MARK,
    BRouteCredentials,
    Provisioned,
)
from meter_runtime.device_key import derive
from meter_runtime.errors import MeterError
from meter_runtime.storage.vault import Vault

log = logging.getLogger(__name__)

_PURPOSE = "meter-runtime configured credentials 1"


class CredentialStore:
    """The provisioned record in its vault."""

    def __init__(self, vault: Vault, key: bytes) -> None:
        self._vault = vault
        self._mark_key = derive(key, _PURPOSE)
        self._current: Provisioned | None = None
        self._seen_mark = NO_MARK

    @classmethod
    def open(cls, vault: Vault, key: bytes) -> "CredentialStore":
        """The record in ``vault``; ``key`` is the device key.

        Raises :class:`MeterError` for a record that this program cannot read.
        """
        store = cls(vault, key)
        content = vault.load()
        if content is not None:
            try:
                store._current = Provisioned.decode(content)
            except MeterError as failure:
                raise MeterError(f"{vault.name}: {failure}, or move the file away") from None
            store._seen_mark = store._current.seed_mark
        return store

    @property
    def version(self) -> int:
        """How often the record was stored; 0 when there is none."""
        return self._vault.version

    @property
    def damaged(self) -> bool:
        """Something is stored, and nothing of it can be believed."""
        return self._vault.damaged

    @property
    def unerased(self) -> bool:
        """What was replaced is still on the medium, sealed; erasing it is tried again."""
        return self._vault.unerased

    def current(self) -> Provisioned | None:
        """The record in force; None when there is none or the vault is damaged."""
        return self._current

    def store(self, provisioned: Provisioned) -> None:
        """Replace the record; durable on return.

        Raises :class:`MeterError` when the medium fails: the one before then stands.
        """
        self._vault.store(provisioned.encode())
        self._current = provisioned

    def rewrite(self, credentials: BRouteCredentials | None, counter: int) -> None:
        """Store what the A-route command with this counter set, or None for a revocation.

        It stands against the configuration that :meth:`seed` was given. Raises as :meth:`store`.
        """
        self.store(Provisioned(credentials, self._seen_mark, counter))

    def seed(self, configured: BRouteCredentials | None) -> Provisioned | None:
        """Take the configuration's credentials over where they are news; the record in force.

        They are when nothing is stored, and when they are not those seen last. A command's counter
        outlives them, or an old command could be played again. A damaged vault takes nothing over:
        the configuration may be a former customer's.
        """
        if configured is not None:
            self._seen_mark = self._mark(configured)
        if self._vault.damaged:
            log.error(
                "%s: the credentials are lost; out of service until they are set again, or the file"
                " is moved away and the configuration's are taken over",
                self._vault.name,
            )
            return None
        if configured is None:
            return self._current
        if self._current is None:
            self.store(Provisioned(configured, self._seen_mark))
        elif not hmac.compare_digest(self._seen_mark, self._current.seed_mark):
            log.info("the configuration's B-route credentials are new and replace those stored")
            self.store(Provisioned(configured, self._seen_mark, self._current.counter))
        return self._current

    def _mark(self, configured: BRouteCredentials) -> bytes:
        record = Provisioned(configured).encode()
        return hmac.digest(self._mark_key, record, "sha256")[:MARK_SIZE]
