"""What is handed to a meter or comes from one, as text: trust file, configuration, identity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.identity import PublicKeys
from meter_runtime.errors import MeterError, UsageError


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """Who may command a meter, and what: patterns as in ``aroute.trust``."""

    name: str
    public_key: bytes
    commands: Sequence[str]


@dataclass(frozen=True, slots=True)
class TrustedCarrier:
    """Who may bring commands, on which way."""

    name: str
    public_key: bytes
    way: Way


def trust_text(issuers: Sequence[TrustedIssuer], carriers: Sequence[TrustedCarrier]) -> str:
    """``trust.toml``."""
    lines = ["# Whom a meter obeys, and who may bring it sealed commands."]
    for issuer in issuers:
        lines += ["", "[[issuer]]", f'name = "{issuer.name}"', f'key = "{issuer.public_key.hex()}"']
        lines += ["commands = [", *(f'    "{command}",' for command in issuer.commands), "]"]
    for carrier in carriers:
        lines += ["", "[[carrier]]", f'name = "{carrier.name}"']
        lines += [f'key = "{carrier.public_key.hex()}"', f'way = "{carrier.way}"']
    return "\n".join(lines) + "\n"


def aroute_section(values: Mapping[str, str]) -> str:
    """The section ``[aroute]`` of a meter's configuration with these keys."""
    # A JSON string is a TOML basic string.
    lines = [f"{key} = {msgspec.json.encode(text).decode()}" for key, text in values.items()]
    return "\n".join(["[aroute]", *lines]) + "\n"


def identity_document(meter_id: str, keys: PublicKeys) -> bytes:
    """The JSON by which a meter's public identity travels."""
    document = {"meter_id": meter_id, "keys": keys.as_json()}
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"


def read_identity(path: Path) -> tuple[str, PublicKeys]:
    """Meter id and keys from such a file; raises :class:`UsageError` for another."""
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Identity)
        return document.meter_id, PublicKeys.from_json(document.keys)
    except OSError as failure:
        raise MeterError(f"{path}: cannot be read: {failure.strerror}") from None
    except (msgspec.MsgspecError, MeterError):
        raise UsageError(
            f"{path}: not a meter's identity; 'meter-runtime keys show --config FILE --json'"
            " on the meter prints it"
        ) from None


class _Identity(msgspec.Struct, frozen=True):
    meter_id: str
    keys: dict[str, str]
