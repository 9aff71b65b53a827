"""Who may use the embedded broker, in the form that amqtt loads by name."""

import hmac
from dataclasses import dataclass

from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session


class OneUser(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is not typed
    """One name with one password; and who gives no name, as somebody the broker forgets."""

    @dataclass
    class Config:
        """What the embedded broker hands over."""

        name: str
        password: str

    async def authenticate(self, *, session: Session) -> bool | None:
        """Whether this client gets in."""
        if session.username is None:
            session.is_anonymous = True
            return True
        given = f"{session.username}\0{session.password or ''}"
        known = f"{self.config.name}\0{self.config.password}"
        return hmac.compare_digest(given.encode(), known.encode())
