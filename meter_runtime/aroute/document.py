"""The page `docs/aroute.md`, its message reference written from the tables the meter obeys by.

``python -m meter_runtime.aroute.document > docs/aroute.md``
"""

import inspect as source
import sys
from typing import Any

import msgspec
from msgspec import inspect

from meter_runtime.aroute.commands import COMMANDS, Arguments, Code
from meter_runtime.aroute.messages import (
    Birth,
    BRouteStatus,
    Event,
    Mark,
    Presence,
    Readings,
    Topics,
)
from meter_runtime.markdown import markdown_table

_TOPICS = Topics("kansai", "METER")

_INTRODUCTION = """\
# The A-route: between meter and utility

Readings and events go up over MQTT, sealed commands come down, signed results go up. This page is
generated from the tables the meter works by: `python -m meter_runtime.aroute.document`. How to set
up a whole utility on one machine is in [headend.md](headend.md), keys are in [keys.md](keys.md),
and what is protected against whom in [security.md](security.md).

## Connect a meter

`meter-runtime keys enroll` writes the section of the configuration, the certificates and the file
of trusted keys for one meter:

```toml
[aroute]
url = "mqtts://broker.example:8883"
ca = "ca.pem"
certificate = "tls.pem"
key = "tls.key"
trust = "trust.toml"
```

`meter-runtime status` shows whether it is connected, what waits to be sent, and up to where the
head-end has everything. The meter speaks MQTT 5, and 3.1.1 with a broker that knows no better; what
it relies on (ids, expiry, order) is in its own messages. A broker that is away costs delay, nothing
else: half-hour values wait in the load profile, 42 days of them.

## Topics

Under `ar/v1/{utility}/{meter_id}/`:
"""

_TOPIC_ROWS: tuple[tuple[str, str, str, str], ...] = (
    (_TOPICS.birth, "up, retained", "`Birth`", "at each connection, and when units change"),
    (_TOPICS.lwt, "up, retained", "`Presence`", "the meter's, or the broker's when it is lost"),
    (_TOPICS.readings, "up", "`Readings`", "half-hour values, until they are acknowledged"),
    (_TOPICS.history, "up", "`Readings`", "the answer to `history.read`"),
    (_TOPICS.event, "up", "`Event`", "what happened"),
    (_TOPICS.broute_status, "up, retained", "`BRouteStatus`", "the diagnosis, when it changes"),
    (_TOPICS.results, "up", "signed result", "of each command"),
    (_TOPICS.commands, "down", "dispatched command", "one topic for each command id, hex"),
    (_TOPICS.mark, "down, retained", "`Mark`", "up to where the head-end has stored everything"),
)

_READINGS = """\
## Readings

A broker's acknowledgement is not storage. The meter sends each stored boundary, some seconds after
it (`jitter_s`), and sends it again, less and less often, until the head-end's `Mark` has passed it.
The messages form a chain: each covers the slots after one and up to another, so that a collector
sees at once that something is missing, sets `resend` in its mark, and gets it. Duplicates and late
ones do no harm: of two messages that speak of one slot the higher `sequence` is right. So is a
correction: where the clock turns out to have been wrong, boundaries are taken back, and what is
right is sent with a higher sequence.
"""

_COMMANDS = """\
## Commands

What the broker, the relay and a hand-held terminal carry is this, from the outside in; CBOR
(RFC 8949, deterministic) in COSE (RFC 9052), 4 096 bytes at most:

1. the **dispatch**, signed (Ed25519) by who carries it: the control side over MQTT, a terminal on
   site;
2. the **envelope**, encrypted to the meter's X25519 key (COSE_Encrypt, HPKE base mode with
   HKDF-SHA256 and AES-128-GCM, RFC 9180); meter, command, command id and expiry are in its
   protected header, readable and bound;
3. the **body**, signed by its issuer: version, command, meter id, command id, issuer, counter, not
   before, expiry, arguments, reason.

The meter checks in this order, and the first that fails is the answer: size, carrier, decryption,
issuer's signature (all of these: `REJECTED`, and after a few within a short time: silence), meter,
command id (the stored result is given again, byte for byte), counter, time window, arguments,
authority. Then it writes down that it begins, does it, writes down the signed result, and tells it.
Power that fails in between leaves either the old or the new; the result says which.
"""

_RESULTS = """\
### Results

Signed by the meter (COSE_Sign1, Ed25519) over a map: 1 version, 2 meter id, 3 command id,
4 counter, 5 code, 6 version of the credentials, 7 proof, 8 applied at, 9 trust of the clock,
10 diagnosis, 11 details, 12 first 16 bytes of the SHA-256 of the message it answers. The **proof**
is HMAC-SHA256 under the command's `proof_key` over route-B ID and password, 16 bytes: by it the
issuer knows that the meter has the right ones, and nobody else learns anything.
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [
        _INTRODUCTION,
        markdown_table(
            ("topic", "way", "content", "when"),
            (
                (f"`{topic.removeprefix('ar/v1/kansai/METER/')}`", *rest)
                for topic, *rest in _TOPIC_ROWS
            ),
        ),
        _READINGS,
        *(_document(kind) for kind in (Readings, Mark, Birth, Presence, Event, BRouteStatus)),
        _COMMANDS,
        markdown_table(
            ("command", "arguments", "what it does"),
            (
                (f"`{spec.name}`", _arguments(spec.arguments), spec.does)
                for spec in COMMANDS.values()
            ),
        ),
        *(
            f"**`{spec.name}`**: {_said(spec.arguments)}\n"
            for spec in COMMANDS.values()
            if _fields(spec.arguments)
        ),
        _RESULTS,
        markdown_table(("code", "meaning"), ((f"`{code}`", code.means) for code in Code)),
    ]
    return "\n".join(parts)


def _document(kind: type[msgspec.Struct]) -> str:
    rows = ((f"`{name}`", shape) for name, shape in _fields(kind))
    return f"### `{kind.__name__}`\n\n{_said(kind)}\n\n{markdown_table(('key', 'value'), rows)}"


def _said(kind: type[Any]) -> str:
    """What the code says of it."""
    return " ".join((source.getdoc(kind) or "").split()).replace("``", "`")


def _arguments(kind: type[Arguments]) -> str:
    return ", ".join(f"`{name}`" for name, _ in _fields(kind)) or "–"


def _fields(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    described = inspect.type_info(kind)
    if not isinstance(described, inspect.StructType):
        raise TypeError(f"{kind.__name__} has no fields")
    return [
        (field.name, _shape(field.type) + ("" if field.required else ", may be absent"))
        for field in described.fields
    ]


def _shape(kind: inspect.Type) -> str:
    match kind:
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "integer"
        case inspect.FloatType():
            return "number"
        case inspect.BytesType(min_length=int() as size):
            return f"{size} bytes"
        case inspect.DateType():
            return "day"
        case inspect.NoneType():
            return "null"
        case inspect.CustomType():
            return "text, secret"
        case inspect.UnionType(types=types):
            return " or ".join(_shape(one) for one in types)
        case inspect.VarTupleType(item_type=inspect.StructType(cls=cls)):
            return f"list of `{cls.__name__}`: {_said(cls)}"
        case inspect.DictType():
            return "map"
        case _:
            raise TypeError(f"{kind} has no words yet")


def main() -> None:
    """Write the page to standard output, in UTF-8 whatever the terminal speaks."""
    sys.stdout.buffer.write(page().encode())


if __name__ == "__main__":
    main()
