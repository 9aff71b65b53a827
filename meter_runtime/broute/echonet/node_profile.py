"""The node profile, object 0x0EF001, as one table: what node this is and which objects it has.

ECHONET Lite specification 1.14, part 2, 6.11. One node, one meter object.
"""

from meter_runtime.broute.echonet.data import MeterData, MeterSettings
from meter_runtime.broute.echonet.definition import (
    PropertyDefinition,
    PropertyMaps,
    ServedObject,
    maps_of,
)
from meter_runtime.broute.echonet.meter_class import FAULT, METER_EOJ, NO_FAULT

NODE_EOJ = bytes.fromhex("0EF001")
INSTANCE_LIST_EPC = 0xD5

_VERSION_1_14_FORMAT_1 = bytes.fromhex("010E0100")
_MAKER_FORMAT = b"\xfe"
_UNIQUE_SIZE = 13


class Node:
    """The state behind the profile."""

    def __init__(self, settings: MeterSettings, data: MeterData, maps: PropertyMaps) -> None:
        self.settings = settings
        self.data = data
        self.maps = maps

    def identification(self, _now: float) -> bytes | None:
        """83: FE, maker code, and the EUI-64 padded in front to 13 bytes (*unverified*)."""
        eui64 = self.data.eui64()
        if eui64 is None:
            return None
        return _MAKER_FORMAT + self.settings.maker_code + eui64.rjust(_UNIQUE_SIZE, b"\0")


TABLE: tuple[PropertyDefinition[Node], ...] = (
    PropertyDefinition(
        0x80,
        "Operating status",
        "動作状態",
        "1",
        "30 booted",
        lambda _n, _now: b"\x30",
        announced=True,
    ),
    PropertyDefinition(
        0x82,
        "Version information",
        "Version情報",
        "4",
        "01 0E 01 00: ECHONET Lite 1.14, format 1",
        lambda _n, _now: _VERSION_1_14_FORMAT_1,
    ),
    PropertyDefinition(
        0x83,
        "Identification number",
        "識別番号",
        "17",
        "FE, maker code, 13 bytes holding the EUI-64",
        Node.identification,
    ),
    PropertyDefinition(
        0x88,
        "Fault status",
        "異常発生状態",
        "1",
        "41 fault, 42 none",
        lambda n, _now: FAULT if n.data.fault() else NO_FAULT,
    ),
    PropertyDefinition(
        0x8A,
        "Manufacturer code",
        "メーカコード",
        "3",
        "FFFFF0 (testing)",
        lambda n, _now: n.settings.maker_code,
    ),
    PropertyDefinition(
        0x8D,
        "Serial number",
        "製造番号",
        "12",
        "the metering unit's, ASCII, padded with NUL",
        lambda n, _now: n.settings.serial.encode().ljust(12, b"\0"),
    ),
    PropertyDefinition(
        0x9D,
        "Status change announcement property map",
        "状変アナウンスプロパティマップ",
        "≤ 17",
        "property map",
        lambda n, _now: n.maps.announced,
    ),
    PropertyDefinition(
        0x9E,
        "Set property map",
        "Setプロパティマップ",
        "≤ 17",
        "property map",
        lambda n, _now: n.maps.settable,
    ),
    PropertyDefinition(
        0x9F,
        "Get property map",
        "Getプロパティマップ",
        "≤ 17",
        "property map",
        lambda n, _now: n.maps.gettable,
    ),
    PropertyDefinition(
        0xD3,
        "Number of self-node instances",
        "自ノードインスタンス数",
        "3",
        "000001",
        lambda _n, _now: bytes.fromhex("000001"),
    ),
    PropertyDefinition(
        0xD4,
        "Number of self-node classes",
        "自ノードクラス数",
        "2",
        "0002: the meter and this profile",
        lambda _n, _now: bytes.fromhex("0002"),
    ),
    PropertyDefinition(
        INSTANCE_LIST_EPC,
        "Instance list notification",
        "インスタンスリスト通知",
        "4",
        "01 028801; announced after every authentication, or asked by INF_REQ",
        lambda _n, _now: b"\x01" + METER_EOJ,
        gettable=False,
        announced=True,
    ),
    PropertyDefinition(
        0xD6,
        "Self-node instance list S",
        "自ノードインスタンスリストS",
        "4",
        "01 028801",
        lambda _n, _now: b"\x01" + METER_EOJ,
    ),
    PropertyDefinition(
        0xD7,
        "Self-node class list S",
        "自ノードクラスリストS",
        "3",
        "01 0288",
        lambda _n, _now: b"\x01" + METER_EOJ[:2],
    ),
)


def serve(settings: MeterSettings, data: MeterData) -> ServedObject:
    """The node profile object at work."""
    return ServedObject(NODE_EOJ, TABLE, Node(settings, data, maps_of(TABLE)))
