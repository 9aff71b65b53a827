"""Signed results: what a meter answers, and what can be proved by it."""

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest
from aroute_samples import METER, METER_ID, OTHER_METER, PASSWORD, PROOF_KEY, RESULT, flipped
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute import cose, results
from meter_runtime.aroute.cbor import MalformedError, decode, encode
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.cose import NotAuthenticError
from meter_runtime.aroute.results import Diagnosis, Item, Result
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.secret import Secret

CONTEXT = b"meter-runtime result 1"
ROUTE_B_ID = "0123456789ABCDEF0123456789ABCDEF"

UNSIGNED = st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
SIXTEEN = st.binary(min_size=16, max_size=16)
RESULTS = st.builds(
    Result,
    meter_id=NAMES,
    command_id=st.none() | SIXTEEN,
    counter=st.none() | UNSIGNED,
    code=st.sampled_from(Code),
    credential_version=UNSIGNED,
    proof=st.none() | SIXTEEN,
    applied_at=st.none() | st.floats(0, 2**40, exclude_max=True),
    clock_trust=st.sampled_from(["unset", "coarse", "synced"]),
    diagnosis=st.none() | st.builds(Diagnosis, st.integers(0, 4), st.integers(0, 15)),
    details=st.dictionaries(
        st.text(max_size=12),
        st.none() | UNSIGNED | st.text(max_size=40) | st.lists(UNSIGNED, max_size=4),
        max_size=4,
    ),
    answer_to=SIXTEEN,
)


def payload(**changes: Any) -> dict[int, Any]:
    return decode(cose.read_signed(results.sign(replace(RESULT, **changes), METER)).payload)  # type: ignore[no-any-return]


def signed(body: Any) -> bytes:
    return cose.sign(encode(body), METER_ID, CONTEXT, METER.sign)


@given(RESULTS)
def test_a_result_arrives_as_it_was_signed(told: Result) -> None:
    message = results.sign(told, METER)
    assert results.read(message, METER.public.signing) == told
    assert results.peek(message) == told


def test_the_payload_is_the_map_that_is_documented() -> None:
    assert payload() == {
        1: 1,
        2: METER_ID,
        3: bytes(range(16)),
        4: 1_234,
        5: "OK",
        6: 7,
        7: bytes(16),
        8: 1_795_143_615.5,
        9: "synced",
        10: [1, 15],
        11: {"registers": {"forward_dwh": 123_456_789, "reverse_dwh": None}},
        12: bytes(reversed(range(16))),
    }


def test_a_rejection_names_no_command() -> None:
    told = replace(
        RESULT,
        command_id=None,
        counter=None,
        code=Code.REJECTED,
        proof=None,
        applied_at=None,
        diagnosis=None,
        details={},
    )
    message = results.sign(told, METER)
    assert results.read(message, METER.public.signing) == told
    assert len(message) == 162


def test_results_are_small() -> None:
    assert len(results.sign(replace(RESULT, details={}), METER)) == 200


def test_signing_twice_says_the_same() -> None:
    """What is stored and what is told again are the same bytes."""
    assert results.sign(RESULT, METER) == results.sign(RESULT, METER)


def test_the_largest_details_fit_a_result_and_no_more() -> None:
    longest = replace(
        RESULT,
        meter_id="m" * 64,
        counter=2**64 - 1,
        code=Code.CLOCK_UNTRUSTED,
        credential_version=2**64 - 1,
        details={"a": bytes(results.MAX_DETAILS_BYTES - 6)},
    )
    assert len(encode(longest.details)) == results.MAX_DETAILS_BYTES
    assert len(results.sign(longest, METER)) <= results.MAX_RESULT_BYTES
    with pytest.raises(ValueError, match="1400 bytes at most, not 1401"):
        results.sign(replace(longest, details={"ab": longest.details["a"]}), METER)


@pytest.mark.parametrize(
    "changes",
    [
        {"details": {"a": Ellipsis}},
        {"details": {"a": Secret(PASSWORD)}},
        {"details": {1: 2}},
        {"details": None},
        {"proof": bytes(32)},
        {"answer_to": b""},
        {"diagnosis": Diagnosis(5, 0)},
        {"diagnosis": Diagnosis(1, 16)},
        {"meter_id": "two words"},
        {"command_id": b""},
        {"code": "FINE"},
        {"counter": -1},
        {"applied_at": float("nan")},
    ],
    ids=str,
)
def test_a_result_that_nobody_would_read_is_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w") as refused:
        results.sign(replace(RESULT, **changes), METER)
    assert PASSWORD not in str(refused.value)


def test_every_single_bit_matters() -> None:
    for other in flipped(results.sign(RESULT, METER)):
        with pytest.raises((MalformedError, NotAuthenticError)):
            results.read(other, METER.public.signing)


def test_a_result_cut_off_anywhere_is_malformed() -> None:
    message = results.sign(RESULT, METER)
    for length in range(len(message)):
        for read in (results.peek, lambda cut: results.read(cut, METER.public.signing)):
            with pytest.raises(MalformedError):
                read(message[:length])


@given(st.binary(max_size=600))
def test_random_bytes_are_malformed(data: bytes) -> None:
    for message in (data, b"\xd2" + data, cose.sign(data, METER_ID, CONTEXT, METER.sign)):
        with pytest.raises(MalformedError):
            results.read(message, METER.public.signing)


def test_another_meter_did_not_sign_it() -> None:
    with pytest.raises(NotAuthenticError):
        results.read(results.sign(RESULT, OTHER_METER), METER.public.signing)


def test_a_meter_signs_in_its_own_name_only() -> None:
    message = cose.sign(encode(payload()), "ANOTHER-METER", CONTEXT, METER.sign)
    for read in (results.peek, lambda it: results.read(it, METER.public.signing)):
        with pytest.raises(NotAuthenticError):
            read(message)


def test_a_signature_for_something_else_is_none_for_a_result() -> None:
    for context in (b"", b"meter-runtime command 1", b"meter-runtime dispatch 1"):
        message = cose.sign(encode(payload()), METER_ID, context, METER.sign)
        with pytest.raises(NotAuthenticError):
            results.read(message, METER.public.signing)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (1, 2),
        (2, None),
        (3, bytes(15)),
        (4, -1),
        (5, "FINE"),
        (6, None),
        (7, bytes(15)),
        (8, "now"),
        (9, "x" * 17),
        (10, [1]),
        (10, [1, 15, 0]),
        (10, [5, 15]),
        (10, {"message": 1, "items": 15}),
        (11, None),
        (12, None),
        (13, 0),
    ],
    ids=str,
)
def test_a_signed_payload_that_is_no_result_is_malformed(label: int, value: Any) -> None:
    with pytest.raises(MalformedError):
        results.peek(signed(payload() | {label: value}))


def test_the_items_of_a_diagnosis_are_bits() -> None:
    all_but_authentication = Item.STARTUP | Item.CONNECTION | Item.COMMUNICATION_UNIT
    assert all_but_authentication == 13
    told = replace(RESULT, diagnosis=Diagnosis(2, all_but_authentication))
    again = results.read(results.sign(told, METER), METER.public.signing)
    assert again.diagnosis == Diagnosis(2, 13)


def test_a_proof_is_of_both_id_and_password() -> None:
    credentials = LinkCredentials(ROUTE_B_ID, Secret(PASSWORD))
    whole = hmac.new(PROOF_KEY, (ROUTE_B_ID + PASSWORD).encode(), hashlib.sha256).digest()
    assert results.proof_of(PROOF_KEY, credentials) == whole[:16]
    others = (
        results.proof_of(bytes(16), credentials),
        results.proof_of(PROOF_KEY, LinkCredentials(ROUTE_B_ID[::-1], credentials.password)),
        results.proof_of(PROOF_KEY, LinkCredentials(ROUTE_B_ID, Secret(PASSWORD[::-1]))),
    )
    assert whole[:16] not in others


def test_an_answer_names_what_it_answers() -> None:
    assert results.answer_to(b"message") == hashlib.sha256(b"message").digest()[:16]
