"""The commands of the A-route: their names, their arguments, and what each may do.

One table, :data:`COMMANDS`, serves the meter that checks and obeys, the head-end that issues, and
the message reference in ``docs/aroute.md``. Arguments are a map with text keys; what stands in it
is checked by :func:`parse_arguments` and nowhere else. The set of commands is this project's own:
the utility's is not published.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import msgspec

from meter_runtime.errors import MeterError
from meter_runtime.secret import Secret

PROOF_KEY_BYTES = 16
PUBLIC_KEY_BYTES = 32
MAX_HISTORY_SLOTS = 2_016
"""Half-hours that one command may ask for: the whole load profile."""

_PASSWORD = re.compile(r"[0-9A-Za-z]{12}")

Slot = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]
RouteBId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-F]{32}\Z")]
ProofKey = Annotated[bytes, msgspec.Meta(min_length=PROOF_KEY_BYTES, max_length=PROOF_KEY_BYTES)]


class _Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command's arguments; a proof key, like a password, is not printed."""

    def __repr__(self) -> str:
        named = (name for name in self.__struct_fields__ if name != "proof_key")
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in named)
        return f"{type(self).__name__}({told})"


class NoArguments(_Arguments, frozen=True):
    """The command says all by its name."""


class SetCredentials(_Arguments, frozen=True):
    """``id`` 32 hex digits; ``password`` 12 letters and digits; ``accepted_on`` a JST day,
    ``YYYY-MM-DD``: nothing from before it is served. ``proof_key`` keys the proof in the result.
    """

    id: RouteBId
    password: Secret
    accepted_on: date
    proof_key: ProofKey


class RewritePassword(_Arguments, frozen=True):
    """The ID stays. ``accepted_on`` only where the customer changed, too; absent: it stays."""

    password: Secret
    proof_key: ProofKey
    accepted_on: date | None = None


class ReadHistory(_Arguments, frozen=True):
    """Half-hours ``first`` to ``last``, inclusive: ``UTC seconds // 1800``."""

    first: Slot
    last: Slot


class SetLimit(_Arguments, frozen=True):
    """``limit_a`` amperes above which the supply is opened; null: no limit."""

    limit_a: Annotated[float, msgspec.Meta(gt=0, le=120)] | None


class AdjustClock(_Arguments, frozen=True):
    """``wall``: UTC seconds that the meter's clock is to show when the command is carried out."""

    wall: Annotated[float, msgspec.Meta(gt=0, lt=2**32)]


class SetDirection(_Arguments, frozen=True):
    """Whether the home is told what it feeds in as forward energy (full feed-in at a flat rate);
    null: as the meter's configuration says.
    """

    feed_in_as_forward: bool | None


class RotateIssuerKey(_Arguments, frozen=True):
    """``public_key``: the Ed25519 key by which this issuer signs from now on."""

    public_key: Annotated[
        bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)
    ]


Arguments = (
    NoArguments
    | SetCredentials
    | RewritePassword
    | ReadHistory
    | SetLimit
    | AdjustClock
    | SetDirection
    | RotateIssuerKey
)


class Code(enum.StrEnum):
    """How a command ended."""

    OK = "OK"
    DUPLICATE = "DUPLICATE"
    STALE_COUNTER = "STALE_COUNTER"
    EXPIRED = "EXPIRED"
    NOT_YET = "NOT_YET"
    WRONG_METER = "WRONG_METER"
    REJECTED = "REJECTED"
    BAD_FORMAT = "BAD_FORMAT"
    NOT_PERMITTED = "NOT_PERMITTED"
    UNIT_ABSENT = "UNIT_ABSENT"
    STORE_FAILED = "STORE_FAILED"
    BUSY = "BUSY"
    CLOCK_UNTRUSTED = "CLOCK_UNTRUSTED"

    @property
    def means(self) -> str:
        """For a person, one sentence."""
        return _MEANS[self]


_MEANS = {
    Code.OK: "It was carried out.",
    Code.DUPLICATE: "This id was used already, for another command.",
    Code.STALE_COUNTER: "The issuer has used this counter, or a higher one.",
    Code.EXPIRED: "It came after its expiry.",
    Code.NOT_YET: "It came before the time it may be carried out from.",
    Code.WRONG_METER: "It was signed for another meter.",
    Code.REJECTED: "It cannot be told who sent it; nothing more is said.",
    Code.BAD_FORMAT: "The command is not known, or its arguments are wrong.",
    Code.NOT_PERMITTED: "This issuer may not, or the meter must not do it now.",
    Code.UNIT_ABSENT: "The unit that would do it is not plugged in, or does not answer.",
    Code.STORE_FAILED: "It could not be stored; what was before stands.",
    Code.BUSY: "Too much is under way; send it again later.",
    Code.CLOCK_UNTRUSTED: "The meter's clock cannot tell whether it is still in time.",
}


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One row of the table."""

    name: str
    arguments: type[Arguments]
    does: str
    """For a person, one sentence."""
    needs_clock: bool = False
    """It must not be obeyed late, so not by a meter whose clock cannot tell."""


_TABLE = (
    CommandSpec(
        "broute.set_credentials",
        SetCredentials,
        "Begin or replace the service to the home: ID, password and acceptance day in one step.",
    ),
    CommandSpec(
        "broute.rewrite_password",
        RewritePassword,
        "Replace the password; the home's session is dropped and it must join anew.",
    ),
    CommandSpec("broute.revoke", NoArguments, "End the service to the home."),
    CommandSpec("broute.status", NoArguments, "Tell the diagnosis of the B-route."),
    CommandSpec("register.read", NoArguments, "Tell registers, power and currents now."),
    CommandSpec("history.read", ReadHistory, "Publish these half-hours again, on reading/history."),
    CommandSpec("switch.open", NoArguments, "Interrupt the supply.", needs_clock=True),
    CommandSpec("switch.close", NoArguments, "Restore the supply.", needs_clock=True),
    CommandSpec(
        "limit.set", SetLimit, "Limit the current of the contract, or no more.", needs_clock=True
    ),
    CommandSpec("clock.adjust", AdjustClock, "Set the meter's clock."),
    CommandSpec("inventory.get", NoArguments, "Tell which units are plugged in."),
    CommandSpec("config.direction", SetDirection, "Say how energy fed in is told to the home."),
    CommandSpec("self_test", NoArguments, "Have every unit test itself."),
    CommandSpec(
        "keys.rotate", RotateIssuerKey, "Replace the key of the issuer who signs this command."
    ),
)

COMMANDS: Mapping[str, CommandSpec] = {spec.name: spec for spec in _TABLE}


class BadArgumentsError(MeterError):
    """The arguments are not those of the command; the message quotes no value."""


def parse_arguments(spec: CommandSpec, given: Mapping[str, Any]) -> Arguments:
    """The typed arguments; raises :class:`BadArgumentsError`."""
    try:
        parsed: Arguments = msgspec.convert(
            given, spec.arguments, builtin_types=(bytes,), dec_hook=_convert
        )
    except msgspec.ValidationError as wrong:
        # msgspec tells type and place, never the value.
        raise BadArgumentsError(f"{spec.name}: {wrong}") from None
    if isinstance(parsed, ReadHistory) and not 0 <= parsed.last - parsed.first < MAX_HISTORY_SLOTS:
        raise BadArgumentsError(
            f"{spec.name}: last is not 0 to {MAX_HISTORY_SLOTS - 1} after first"
        )
    return parsed


def plain_arguments(arguments: Arguments) -> dict[str, Any]:
    """What goes into the sealed body, a password in clear: seal it, and keep it nowhere else."""
    plain: dict[str, Any] = msgspec.to_builtins(arguments, builtin_types=(bytes,), enc_hook=_reveal)
    return plain


def _convert(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        if not _PASSWORD.fullmatch(value):
            raise ValueError("Expected 12 letters and digits")
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def _reveal(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"{type(value).__name__} is no argument")
