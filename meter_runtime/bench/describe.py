"""A frame in words, for people who watch the air."""

from meter_runtime.broute.echonet.frame import MalformedFrame, parse

_SERVICES = {
    0x50: "SetI_SNA",
    0x51: "SetC_SNA",
    0x52: "Get_SNA",
    0x53: "INF_SNA",
    0x5E: "SetGet_SNA",
    0x60: "SetI",
    0x61: "SetC",
    0x62: "Get",
    0x63: "INF_REQ",
    0x6E: "SetGet",
    0x71: "Set_Res",
    0x72: "Get_Res",
    0x73: "INF",
    0x74: "INFC",
    0x7A: "INFC_Res",
    0x7E: "SetGet_Res",
}
_SHOWN_BYTES = 8


def service_name(esv: int) -> str:
    """The specification's name of a service code."""
    return _SERVICES.get(esv, f"ESV {esv:02X}")


def describe(payload: bytes) -> str:
    """One line: service, and each property with the start of its data."""
    try:
        frame = parse(payload)
    except MalformedFrame:
        return f"{len(payload)} bytes that are no ECHONET Lite frame"
    parts = [service_name(frame.esv)]
    for item in (*frame.properties, *(frame.properties_get or ())):
        data = item.edt[:_SHOWN_BYTES].hex().upper()
        more = "…" if len(item.edt) > _SHOWN_BYTES else ""
        parts.append(f"{item.epc:02X}={data}{more}" if data else f"{item.epc:02X}")
    return " ".join(parts)
