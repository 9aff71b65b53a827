"""The B-route's diagnosis: four items, one message (the utility's paper, table 2).

Owns the table, its extension to every combination, and what is said of it in words. How the items
come about is :mod:`~meter_runtime.broute.status`'s business, what may be the reason
:mod:`~meter_runtime.broute.causes`'s. The Japanese texts are this project's own (*unverified*).
"""

import enum
from dataclasses import dataclass
from typing import Any


class Message(enum.IntEnum):
    """The indicated message; 0 is ours: there is nothing to diagnose."""

    NOT_IN_SERVICE = 0
    ACTIVE = 1
    HEMS_FAILURE = 2
    HEMS_UNCONNECTED = 3
    ABNORMALITY = 4

    @property
    def text(self) -> str:
        return _TEXTS[self][0]

    @property
    def text_ja(self) -> str:
        return _TEXTS[self][1]


_TEXTS = {
    Message.NOT_IN_SERVICE: ("not in service", "Bルートサービス対象外"),
    Message.ACTIVE: ("active status", "正常稼働中"),
    Message.HEMS_FAILURE: ("HEMS is failure", "HEMS異常"),
    Message.HEMS_UNCONNECTED: ("HEMS is unconnected", "HEMS未接続"),
    Message.ABNORMALITY: ("abnormality", "異常"),
}


@dataclass(frozen=True, slots=True)
class Items:
    """The four items; True is "clear" (for the communication unit: "normal")."""

    startup: bool
    authentication: bool
    connection: bool
    communication_unit: bool

    @property
    def bits(self) -> int:
        """The four as bits 0 to 3, in the order above; 1 is clear."""
        return (
            self.startup
            | self.authentication << 1
            | self.connection << 2
            | self.communication_unit << 3
        )

    def report(self) -> dict[str, str]:
        """The items in the paper's words."""
        return {
            "startup": _clear(self.startup),
            "authentication": _clear(self.authentication),
            "connection": _clear(self.connection),
            "communication_unit": "normal" if self.communication_unit else "abnormality",
        }


_DEFINED = {
    Items(startup=True, authentication=True, connection=True, communication_unit=True),
    Items(startup=True, authentication=False, connection=False, communication_unit=True),
    Items(startup=True, authentication=True, connection=False, communication_unit=True),
    Items(startup=False, authentication=True, connection=False, communication_unit=False),
    Items(startup=False, authentication=False, connection=False, communication_unit=False),
}


def message_of(items: Items) -> tuple[Message, bool]:
    """The message for any combination, and whether the paper's table defines it.

    The order of the checks beyond the table is *unverified*: the unit before the home, the
    password before the connection.
    """
    defined = items in _DEFINED
    if not items.communication_unit or not items.startup:
        return Message.ABNORMALITY, defined
    if not items.authentication:
        return Message.HEMS_FAILURE, defined
    if not items.connection:
        return Message.HEMS_UNCONNECTED, defined
    return Message.ACTIVE, defined


class Expected(enum.StrEnum):
    """Why a message that is not good is no alarm at present."""

    STARTING = "starting"
    """The link is being brought up, and nothing went wrong yet: 4."""
    REJOINING = "rejoining"
    """The link has started, and whoever was joined before has to join again: 3."""
    REWRITTEN = "rewritten"
    """The home has not entered the new password yet: 2 and 3."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the diagnosis comes to at one moment."""

    message: Message
    items: Items | None
    """None while the home is not served."""
    expected: Expected | None
    alarm: bool


@dataclass(frozen=True, slots=True)
class DiagnosisChanged:
    """Published when message, items, alarm, or why there is none, became another."""

    verdict: Verdict


class NotServed(enum.StrEnum):
    """Why the home is not served."""

    NO_CREDENTIALS = "no_credentials"
    REVOKED = "revoked"
    CREDENTIALS_LOST = "credentials_lost"
    COMBINATION = "combination"
    PREPARING = "preparing"

    @property
    def text(self) -> str:
        return _WHY_NOT[self][0]

    @property
    def text_ja(self) -> str:
        return _WHY_NOT[self][1]

    @property
    def alarm(self) -> bool:
        """Somebody is to be served, and cannot be."""
        return self in (NotServed.CREDENTIALS_LOST, NotServed.COMBINATION)


_WHY_NOT = {
    NotServed.NO_CREDENTIALS: ("no credentials were set", "認証情報が未設定"),
    NotServed.REVOKED: ("the service was ended", "サービス終了済み"),
    NotServed.CREDENTIALS_LOST: ("the stored credentials cannot be used", "認証情報が読み出せない"),
    NotServed.COMBINATION: ("the combination of units forbids it", "ユニットの組合せが不適合"),
    NotServed.PREPARING: ("the units are being looked at", "ユニット確認中"),
}


@dataclass(frozen=True, slots=True)
class OutOfService:
    """Nobody is served, why, and by which findings about the units (U-01 to U-24) that is so."""

    why: NotServed
    findings: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return Verdict(Message.NOT_IN_SERVICE, None, None, self.why.alarm)

    def report(self) -> dict[str, Any]:
        """The ``broute`` part of the status document: the same keys as in service, or empty."""
        message = Message.NOT_IN_SERVICE
        return {
            "in_service": False,
            "why_not": {
                "code": self.why.value,
                "text": self.why.text,
                "text_ja": self.why.text_ja,
                "findings": list(self.findings),
            },
            "message": int(message),
            "text": message.text,
            "text_ja": message.text_ja,
            "items": None,
            "undefined_combination": False,
            "expected": False,
            "alarm": self.why.alarm,
            "causes": [],
            "medium": None,
            "link": None,
            "session": None,
            "counters": {},
        }


def _clear(good: bool) -> str:
    return "clear" if good else "failure"
