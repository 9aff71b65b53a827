"""The carrier's signature around an envelope."""

from dataclasses import replace
from typing import Any

import pytest
from aroute_samples import CARRIER, COMMAND, DISPATCH, ISSUER, METER, command, flipped
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute import cose, dispatch, envelope
from meter_runtime.aroute.cbor import MalformedError, decode, encode
from meter_runtime.aroute.cose import MAX_MESSAGE_BYTES, NotAuthenticError
from meter_runtime.aroute.dispatch import Dispatch, Way
from meter_runtime.aroute.envelope import MAX_ENVELOPE_BYTES

CONTEXT = b"meter-runtime dispatch 1"
BODY = {1: 1, 2: "control", 3: DISPATCH.at, 4: DISPATCH.operator, 5: DISPATCH.note, 6: b"sealed"}

DISPATCHES = st.builds(
    Dispatch,
    carrier=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64),
    way=st.sampled_from(Way),
    at=st.floats(0, 2**40, exclude_max=True),
    operator=st.text(max_size=64),
    note=st.text(max_size=128),
    envelope=st.binary(max_size=MAX_ENVELOPE_BYTES),
)


def signed(body: Any) -> bytes:
    return cose.sign(encode(body), "scs", CONTEXT, CARRIER.sign)


@given(DISPATCHES)
def test_a_dispatch_arrives_as_it_was_wrapped(told: Dispatch) -> None:
    unverified = dispatch.unwrap(dispatch.wrap(told, CARRIER))
    assert (unverified.carrier, unverified.way) == (told.carrier, told.way)
    assert unverified.verify(CARRIER.public) == told


def test_the_payload_is_the_map_that_is_documented() -> None:
    message = dispatch.wrap(DISPATCH, CARRIER)
    assert decode(cose.read_signed(message).payload) == BODY
    assert dispatch.unwrap(signed(BODY)).verify(CARRIER.public) == DISPATCH


def test_the_largest_envelope_goes_with_the_longest_note() -> None:
    """In three-byte characters, by a carrier with the longest name."""
    told = Dispatch("c" * 64, Way.TERMINAL, 1.1, "電" * 64, "気" * 128, bytes(MAX_ENVELOPE_BYTES))
    assert len(dispatch.wrap(told, CARRIER)) <= MAX_MESSAGE_BYTES


def test_a_command_and_its_dispatch_are_small() -> None:
    sealed = envelope.seal(COMMAND, ISSUER, METER.public.sealing)
    assert len(dispatch.wrap(replace(DISPATCH, envelope=sealed), CARRIER)) == 572
    status = envelope.seal(
        command(name="broute.status", arguments={}), ISSUER, METER.public.sealing
    )
    assert len(dispatch.wrap(replace(DISPATCH, envelope=status), CARRIER)) == 502


def test_every_single_bit_matters() -> None:
    for other in flipped(dispatch.wrap(DISPATCH, CARRIER)):
        with pytest.raises((MalformedError, NotAuthenticError)):
            dispatch.unwrap(other).verify(CARRIER.public)


def test_a_dispatch_cut_off_anywhere_is_malformed() -> None:
    message = dispatch.wrap(DISPATCH, CARRIER)
    for length in range(len(message)):
        with pytest.raises(MalformedError):
            dispatch.unwrap(message[:length])


@given(st.binary(max_size=600))
def test_random_bytes_are_malformed(data: bytes) -> None:
    for message in (data, b"\xd2" + data, cose.sign(data, "scs", CONTEXT, CARRIER.sign)):
        with pytest.raises(MalformedError):
            dispatch.unwrap(message)


def test_another_carrier_did_not_sign_it() -> None:
    with pytest.raises(NotAuthenticError):
        dispatch.unwrap(dispatch.wrap(DISPATCH, CARRIER)).verify(ISSUER.public)


def test_another_name_on_it_is_seen() -> None:
    tag, parts = b"\xd2", decode(dispatch.wrap(DISPATCH, CARRIER)[1:])
    renamed = tag + encode([encode({1: -8, 4: b"terminal-7"}), *parts[1:]])
    assert dispatch.unwrap(renamed).carrier == "terminal-7"
    with pytest.raises(NotAuthenticError):
        dispatch.unwrap(renamed).verify(CARRIER.public)


def test_a_signature_for_something_else_is_none_for_a_dispatch() -> None:
    for context in (b"", b"meter-runtime command 1", b"meter-runtime result 1"):
        message = cose.sign(encode(BODY), "scs", context, CARRIER.sign)
        with pytest.raises(NotAuthenticError):
            dispatch.unwrap(message).verify(CARRIER.public)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (1, 2),
        (2, "relay"),
        (2, None),
        (3, -1.0),
        (3, float("inf")),
        (3, float("nan")),
        (3, "now"),
        (4, None),
        (4, "x" * 65),
        (5, "x" * 129),
        (6, "text"),
        (6, bytes(MAX_ENVELOPE_BYTES + 1)),
        (7, 0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_signed_payload_that_is_no_dispatch_is_malformed(label: int, value: Any) -> None:
    with pytest.raises(MalformedError):
        dispatch.unwrap(signed(BODY | {label: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"carrier": ""},
        {"carrier": "two words"},
        {"operator": "x" * 65},
        {"note": "x" * 129},
        {"at": float("nan")},
        {"at": -1.0},
        {"envelope": bytes(MAX_ENVELOPE_BYTES + 1)},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_dispatch_that_no_meter_would_read_is_not_wrapped(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        dispatch.wrap(replace(DISPATCH, **changes), CARRIER)


def test_an_envelope_is_not_printed() -> None:
    unverified = dispatch.unwrap(dispatch.wrap(DISPATCH, CARRIER))
    for printed in (repr(unverified), repr(unverified.verify(CARRIER.public))):
        assert "sealed" not in printed
