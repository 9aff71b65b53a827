"""What may be the reason for a message: the last column of the paper's table 2, by medium.

The paper names no cause beyond these; ours are marked *unverified*. They are in the order in which
somebody on site would look. The Japanese texts are this project's own (*unverified*).
"""

import enum
from collections.abc import Mapping

from meter_runtime.broute.diagnosis import Expected, Message


class Cause(enum.StrEnum):
    """A probable cause."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - the name of a cause
    FORMER_CREDENTIALS = "former_credentials"
    """*Unverified*: the utility has rewritten them, and the home not yet."""
    HEMS_OFF = "hems_off"
    WRONG_ID = "wrong_id"
    """*Unverified*, follows from the link: with another ID the meter is never found."""
    DISTANCE = "distance"
    INTERFERENCE = "interference"
    SIGNAL_REDUCED = "signal_reduced"
    NOISE = "noise"
    NETWORK = "network"
    """*Unverified*: second generation, wireless LAN."""
    UNIT_DOWN = "unit_down"

    @property
    def text(self) -> str:
        return _TEXTS[self][0]

    @property
    def text_ja(self) -> str:
        return _TEXTS[self][1]


_TEXTS: Mapping[Cause, tuple[str, str]] = {
    Cause.WRONG_PASSWORD: (
        "the password entered in the HEMS is wrong",
        "HEMSに入力されたパスワードの誤り",
    ),
    Cause.FORMER_CREDENTIALS: (
        "the HEMS still has ID or password from before the rewrite",
        "HEMSの認証ID・パスワードが書換え前のまま",
    ),
    Cause.HEMS_OFF: ("the HEMS is switched off", "HEMSの電源断"),
    Cause.WRONG_ID: ("the ID entered in the HEMS is wrong", "HEMSに入力された認証IDの誤り"),
    Cause.DISTANCE: ("the HEMS is too far from the meter", "HEMSとメーターの距離が遠い"),
    Cause.INTERFERENCE: ("radio interference", "電波干渉"),
    Cause.SIGNAL_REDUCED: (
        "a device in the house reduces the signal",
        "宅内機器による信号の減衰",
    ),
    Cause.NOISE: ("a device in the house makes noise", "宅内機器によるノイズ"),
    Cause.NETWORK: ("the home's network does not reach the meter", "宅内ネットワークの不通"),
    Cause.UNIT_DOWN: ("the communication unit may be down", "通信ユニットの故障の可能性"),
}

_UNCONNECTED: Mapping[str, tuple[Cause, ...]] = {
    "920MHz": (Cause.HEMS_OFF, Cause.DISTANCE, Cause.INTERFERENCE, Cause.WRONG_ID),
    "PLC": (Cause.HEMS_OFF, Cause.SIGNAL_REDUCED, Cause.NOISE, Cause.WRONG_ID),
}
_UNCONNECTED_ELSEWHERE = (Cause.HEMS_OFF, Cause.NETWORK, Cause.WRONG_ID)


def probable(message: Message, medium: str, expected: Expected | None = None) -> tuple[Cause, ...]:
    """What to look for; nothing where nothing is wrong.

    ``medium`` is the communication unit's. After a rewrite the former credentials come first.
    """
    match message:
        case Message.HEMS_FAILURE:
            causes: tuple[Cause, ...] = (Cause.WRONG_PASSWORD,)
        case Message.HEMS_UNCONNECTED:
            causes = _UNCONNECTED.get(medium, _UNCONNECTED_ELSEWHERE)
        case Message.ABNORMALITY if expected is not Expected.STARTING:
            causes = (Cause.UNIT_DOWN,)
        case _:
            return ()
    return (Cause.FORMER_CREDENTIALS, *causes) if expected is Expected.REWRITTEN else causes
