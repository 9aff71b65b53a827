"""The sealed command: only its meter reads it, only its issuer can have signed it."""

from collections.abc import Callable
from typing import Any

import pytest
from aroute_samples import (
    CARRIER,
    COMMAND,
    ISSUER,
    METER,
    METER_ID,
    OTHER_METER,
    PASSWORD,
    PROOF_KEY,
    command,
    flipped,
)
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute import cose, envelope
from meter_runtime.aroute.cbor import MalformedError, decode, encode
from meter_runtime.aroute.commands import COMMANDS, RewritePassword, parse_arguments
from meter_runtime.aroute.cose import NotAuthenticError
from meter_runtime.aroute.envelope import MAX_ENVELOPE_BYTES, Command, Routing

CONTEXT = b"meter-runtime command 1"
ROUTING = [1, METER_ID, COMMAND.name, COMMAND.command_id, COMMAND.expiry]

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
UNSIGNED = st.integers(0, 2**64 - 1)
ARGUMENTS = st.dictionaries(
    st.text(max_size=12),
    st.none() | st.booleans() | UNSIGNED | st.floats(allow_nan=False) | st.binary() | st.text(),
    max_size=4,
)
COMMANDS_OF_ANY_KIND = st.builds(
    Command,
    name=NAMES,
    meter_id=NAMES,
    command_id=st.binary(min_size=16, max_size=16),
    issuer=NAMES,
    counter=UNSIGNED,
    not_before=UNSIGNED,
    expiry=UNSIGNED,
    arguments=ARGUMENTS,
    reason=st.text(max_size=128),
)


def sealed(**changes: Any) -> bytes:
    return envelope.seal(command(**changes), ISSUER, METER.public.sealing)


def opened(message: bytes) -> Command:
    return envelope.verify(envelope.unseal(message, METER), ISSUER.public)


def forged(
    body: bytes,
    routing: Any = ROUTING,
    kid: str = COMMAND.issuer,
    sign: Callable[[bytes], bytes] = ISSUER.sign,
) -> bytes:
    """An envelope made by hand, so that it may be wrong."""
    return cose.encrypt(cose.sign(body, kid, CONTEXT, sign), routing, METER.public.sealing)


def body_of(told: Command) -> dict[int, Any]:
    """What is signed, as a map."""
    message = envelope.seal(told, ISSUER, METER.public.sealing)
    fields: dict[int, Any] = decode(envelope.unseal(message, METER).signed.payload)
    return fields


BODY = body_of(COMMAND)


@given(COMMANDS_OF_ANY_KIND)
def test_a_command_arrives_as_it_was_sealed(told: Command) -> None:
    message = envelope.seal(told, ISSUER, METER.public.sealing)
    assert len(message) <= MAX_ENVELOPE_BYTES
    assert envelope.routing(message) == Routing(
        1, told.meter_id, told.name, told.command_id, told.expiry
    )
    body = envelope.unseal(message, METER)
    assert body.issuer == told.issuer
    assert envelope.verify(body, ISSUER.public) == told


def test_the_body_is_the_map_that_is_documented() -> None:
    assert body_of(COMMAND) == {
        1: 1,
        2: "broute.rewrite_password",
        3: METER_ID,
        4: bytes(range(16)),
        5: "new-system",
        6: 1_234,
        7: 1_795_143_600,
        8: 1_795_230_000,
        9: {"password": PASSWORD, "proof_key": PROOF_KEY},
        10: "customer moved",
    }
    assert cose.read_encrypted(sealed()).routing == ROUTING


def test_an_envelope_is_small() -> None:
    """A work order's bar code carries it, too."""
    assert len(sealed()) == 433
    assert len(sealed(name="broute.status", arguments={}, reason="")) == 349


def test_its_arguments_are_what_the_command_wants() -> None:
    arguments = parse_arguments(COMMANDS[COMMAND.name], opened(sealed()).arguments)
    assert isinstance(arguments, RewritePassword)
    assert arguments.password.reveal() == PASSWORD
    assert arguments.proof_key == PROOF_KEY


def test_carriers_see_no_argument() -> None:
    message = sealed()
    for part in (PASSWORD.encode(), PROOF_KEY, b"new-system", b"customer moved"):
        assert part not in message


def test_nothing_of_it_is_printed() -> None:
    message = sealed()
    body = envelope.unseal(message, METER)
    for printed in (
        repr(opened(message)),
        repr(body),
        repr(body.signed),
        repr(cose.read_encrypted(message)),
        repr(parse_arguments(COMMANDS[COMMAND.name], COMMAND.arguments)),
    ):
        assert PASSWORD not in printed
        assert repr(PROOF_KEY) not in printed


def test_every_single_bit_matters() -> None:
    for other in flipped(sealed()):
        with pytest.raises((MalformedError, NotAuthenticError)):
            opened(other)


def test_every_single_bit_of_the_signed_body_matters() -> None:
    """Of one who could encrypt, and cannot sign."""
    signed = cose.sign(encode(BODY), COMMAND.issuer, CONTEXT, ISSUER.sign)
    assert opened(cose.encrypt(signed, ROUTING, METER.public.sealing)) == COMMAND
    for other in flipped(signed):
        with pytest.raises((MalformedError, NotAuthenticError)):
            opened(cose.encrypt(other, ROUTING, METER.public.sealing))


def test_an_envelope_cut_off_anywhere_is_malformed() -> None:
    message = sealed()
    for length in range(len(message)):
        for read in (envelope.routing, opened):
            with pytest.raises(MalformedError):
                read(message[:length])
    with pytest.raises(MalformedError):
        opened(message + b"\0")


@given(st.binary(max_size=600))
def test_random_bytes_are_malformed(data: bytes) -> None:
    for read in (envelope.routing, opened):
        with pytest.raises(MalformedError):
            read(data)


def test_an_envelope_for_another_meter_stays_closed() -> None:
    with pytest.raises(NotAuthenticError):
        envelope.unseal(sealed(), OTHER_METER)


def test_another_issuer_did_not_sign_it() -> None:
    body = envelope.unseal(sealed(), METER)
    with pytest.raises(NotAuthenticError):
        envelope.verify(body, CARRIER.public)
    theirs = envelope.seal(COMMAND, CARRIER, METER.public.sealing)
    with pytest.raises(NotAuthenticError):
        opened(theirs)


def test_routing_of_another_envelope_does_not_fit() -> None:
    mine, theirs = decode(sealed()[2:]), decode(sealed(expiry=COMMAND.expiry + 1)[2:])
    swapped = b"\xd8\x60" + encode([theirs[0], *mine[1:]])
    assert envelope.routing(swapped).expiry == COMMAND.expiry + 1
    with pytest.raises(NotAuthenticError):
        opened(swapped)


@pytest.mark.parametrize(
    ("place", "value"),
    [(1, "ANOTHER-METER"), (2, "switch.open"), (3, bytes(16)), (4, COMMAND.expiry + 1)],
    ids=["meter", "command", "command id", "expiry"],
)
def test_routing_must_say_what_the_body_says(place: int, value: Any) -> None:
    routing = [*ROUTING]
    routing[place] = value
    assert opened(forged(encode(BODY))) == COMMAND
    with pytest.raises(NotAuthenticError):
        opened(forged(encode(BODY), routing))


def test_an_issuer_signs_in_its_own_name_only() -> None:
    with pytest.raises(NotAuthenticError):
        opened(forged(encode(BODY), kid="control-system"))
    with pytest.raises(NotAuthenticError):
        opened(forged(encode(BODY | {5: "control-system"})))


def test_a_signature_for_something_else_is_none_for_a_command() -> None:
    for context in (b"", b"meter-runtime dispatch 1", b"meter-runtime result 1"):
        signed = cose.sign(encode(BODY), COMMAND.issuer, context, ISSUER.sign)
        with pytest.raises(NotAuthenticError):
            opened(cose.encrypt(signed, ROUTING, METER.public.sealing))


@pytest.mark.parametrize(
    "routing",
    [
        None,
        {},
        [],
        ROUTING[:4],
        [*ROUTING, 0],
        [2, *ROUTING[1:]],
        [True, *ROUTING[1:]],
        [1, "", *ROUTING[2:]],
        [1, "a b", *ROUTING[2:]],
        [1, "a\n", *ROUTING[2:]],
        [1, b"METER", *ROUTING[2:]],
        [*ROUTING[:3], bytes(15), ROUTING[4]],
        [*ROUTING[:3], "A" * 16, ROUTING[4]],
        [*ROUTING[:4], -1],
        [*ROUTING[:4], 1.5],
    ],
    ids=str,
)
def test_another_routing_is_malformed(routing: Any) -> None:
    message = forged(encode(BODY), routing)
    for read in (envelope.routing, opened):
        with pytest.raises(MalformedError):
            read(message)


WRONG: list[tuple[int, Any]] = [
    (1, 2),
    (1, "1"),
    (2, ""),
    (2, 5),
    (3, "kW h"),
    (4, bytes(17)),
    (4, None),
    (5, "\x7f"),
    (6, -1),
    (6, True),
    (7, 1.5),
    (8, "tomorrow"),
    (9, []),
    (9, {1: 2}),
    (9, None),
    (10, "x" * 129),
    (10, b""),
    (11, 0),
]


@pytest.mark.parametrize(("label", "value"), WRONG, ids=str)
def test_a_signed_body_that_is_no_command_is_malformed(label: int, value: Any) -> None:
    with pytest.raises(MalformedError):
        opened(forged(encode(BODY | {label: value})))


@given(st.binary(max_size=200))
def test_random_bytes_in_a_signature_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        opened(forged(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"meter_id": ""},
        {"meter_id": "a meter"},
        {"issuer": "é"},
        {"command_id": bytes(8)},
        {"counter": -1},
        {"counter": 2**64},
        {"reason": "x" * 129},
        {"arguments": {"password": Ellipsis}},
        {"arguments": {1: 2}},
        {"arguments": {"a": [[[[[[[[[]]]]]]]]]}},
        {"arguments": {"a": bytes(3000)}},
        {"arguments": {"a": bytes(4000)}},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_a_command_that_no_meter_would_read_is_not_sealed(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^[^•]{10,120}$") as refused:
        sealed(**changes)
    assert PASSWORD not in str(refused.value)


def test_an_envelope_larger_than_a_carrier_can_take_is_malformed() -> None:
    message = cose.encrypt(bytes(3000), ROUTING, METER.public.sealing)
    with pytest.raises(MalformedError, match="more than 3072 bytes"):
        envelope.routing(message)
