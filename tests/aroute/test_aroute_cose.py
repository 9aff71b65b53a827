"""Signed and encrypted messages, against another implementation of both."""

from typing import Any

import pytest
from aroute_samples import CARRIER, ISSUER, METER, OTHER_METER
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cwt import COSE, COSEKey, Recipient
from cwt.cose_key_interface import COSEKeyInterface
from hypothesis import given
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

from meter_runtime.aroute import cose
from meter_runtime.aroute.cbor import MalformedError, encode
from meter_runtime.aroute.cose import MAX_MESSAGE_BYTES, NotAuthenticError
from meter_runtime.aroute.identity import MeterIdentity

X25519, ED25519 = 4, 6
HPKE_3_KE, EDDSA, A128GCM = 49, -8, 1
PRIVATE_LABEL = -65_537
CONTEXT = b"a test"

SEALING = X25519PrivateKey.from_private_bytes(b"sealing".ljust(32))
SIGNING = Ed25519PrivateKey.from_private_bytes(b"signing".ljust(32))
OWNER = MeterIdentity(SEALING, SIGNING)

ROUTING = st.lists(st.text(max_size=16) | st.binary(max_size=16) | st.integers(0, 2**40))


def oracle_key(curve: int, public: bytes, private: bytes | None = None) -> COSEKeyInterface:
    """The key as the other implementation wants it."""
    params: dict[int, Any] = {1: 1, -1: curve, -2: public}
    params |= {3: HPKE_3_KE} if curve == X25519 else {3: EDDSA, 2: b"signer"}
    if private is not None:
        params[-4] = private
    return COSEKey.new(params)


@given(st.binary(max_size=2000), ROUTING)
def test_another_implementation_opens_what_is_encrypted(plaintext: bytes, routing: Any) -> None:
    message = cose.encrypt(plaintext, routing, OWNER.public.sealing)
    key = oracle_key(X25519, OWNER.public.sealing, SEALING.private_bytes_raw())
    protected, unprotected, opened = COSE.new().decode_with_headers(message, [key])
    assert opened == plaintext
    assert protected == {1: A128GCM, PRIVATE_LABEL: routing}
    assert list(unprotected) == [5]


@given(st.binary(max_size=2000), ROUTING)
def test_what_another_implementation_encrypted_is_opened(plaintext: bytes, routing: Any) -> None:
    recipient = Recipient.new(
        protected={1: HPKE_3_KE}, recipient_key=oracle_key(X25519, OWNER.public.sealing)
    )
    message = COSE.new().encode_and_encrypt(
        plaintext,
        COSEKey.from_symmetric_key(alg="A128GCM"),
        protected={1: A128GCM, PRIVATE_LABEL: routing},
        recipients=[recipient],
    )
    encrypted = cose.read_encrypted(message)
    assert encrypted.routing == routing
    assert encrypted.open(OWNER.open) == plaintext


@given(st.binary(max_size=2000), st.binary(max_size=40))
def test_both_implementations_sign_alike(payload: bytes, context: bytes) -> None:
    message = cose.sign(payload, "signer", context, OWNER.sign)
    key = oracle_key(ED25519, OWNER.public.signing, SIGNING.private_bytes_raw())
    same = COSE.new().encode_and_sign(
        payload, key, protected={1: EDDSA, 4: b"signer"}, external_aad=context
    )
    assert message == same
    assert cose.read_signed(message).verify(OWNER.public.signing, context) == payload
    public = oracle_key(ED25519, OWNER.public.signing)
    assert COSE.new().decode(message, [public], external_aad=context) == payload


SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES128_GCM)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_two_implementations_of_hpke_open_each_other(plaintext: bytes, info: bytes) -> None:
    """RFC 9180's own vectors need associated data, which the single-shot form does not take."""
    public = X25519PublicKey.from_public_bytes(OWNER.public.sealing)
    enc, sender = SUITE.create_sender_context(KEMKey.from_pyca_cryptography_key(public), info=info)
    assert OWNER.open(enc + sender.seal(plaintext), info) == plaintext
    sealed = cose.HPKE_SUITE.encrypt(plaintext, public, info)
    private = KEMKey.from_pyca_cryptography_key(SEALING)
    assert (
        SUITE.create_recipient_context(sealed[:32], private, info=info).open(sealed[32:])
        == plaintext
    )


def test_the_content_key_is_sealed_for_its_place() -> None:
    """Another next layer, another header or a context of its own: another info, and no key."""
    encrypted = cose.read_encrypted(cose.encrypt(b"text", None, OWNER.public.sealing))
    header = encode({1: HPKE_3_KE})
    assert cose.recipient_info() == encode(["HPKE Recipient", A128GCM, header, b""])
    for info in (
        b"",
        encode(["HPKE Recipient", 3, header, b""]),
        encode(["HPKE Recipient", A128GCM, b"", b""]),
        encode(["HPKE Recipient", A128GCM, header, b"x"]),
    ):
        with pytest.raises(NotAuthenticError):
            encrypted.open(lambda sealed, _, info=info: OWNER.open(sealed, info))  # type: ignore[misc]


def test_only_the_recipient_opens() -> None:
    encrypted = cose.read_encrypted(cose.encrypt(b"text", None, METER.public.sealing))
    assert encrypted.open(METER.open) == b"text"
    with pytest.raises(NotAuthenticError):
        encrypted.open(OTHER_METER.open)


def test_no_two_messages_are_alike() -> None:
    messages = {cose.encrypt(b"text", None, METER.public.sealing) for _ in range(20)}
    assert len(messages) == 20


def test_only_the_signer_in_this_context_verifies() -> None:
    signed = cose.read_signed(cose.sign(b"text", "issuer", CONTEXT, ISSUER.sign))
    assert signed.kid == "issuer"
    assert signed.verify(ISSUER.public, CONTEXT) == b"text"
    for public, context in (
        (CARRIER.public, CONTEXT),
        (ISSUER.public, b""),
        (ISSUER.public, CONTEXT + b"s"),
        (ISSUER.public[:31], CONTEXT),
        (b"", CONTEXT),
    ):
        with pytest.raises(NotAuthenticError):
            signed.verify(public, context)


def test_a_message_of_the_other_kind_is_malformed() -> None:
    signed = cose.sign(b"text", "issuer", CONTEXT, ISSUER.sign)
    encrypted = cose.encrypt(b"text", None, METER.public.sealing)
    with pytest.raises(MalformedError):
        cose.read_signed(encrypted)
    with pytest.raises(MalformedError):
        cose.read_encrypted(signed)
    with pytest.raises(MalformedError):
        cose.read_signed(signed[1:])


def test_the_size_is_looked_at_first() -> None:
    for length, ok in ((MAX_MESSAGE_BYTES - 88, True), (MAX_MESSAGE_BYTES - 40, False)):
        if ok:
            message = cose.sign(bytes(length), "issuer", CONTEXT, ISSUER.sign)
            assert cose.read_signed(message).payload == bytes(length)
        else:
            with pytest.raises(ValueError, match="more than a message"):
                cose.sign(bytes(length), "issuer", CONTEXT, ISSUER.sign)
    with pytest.raises(MalformedError, match="more than 4096 bytes"):
        cose.read_signed(b"\xd2" + bytes(MAX_MESSAGE_BYTES))


HEADER = encode({1: EDDSA, 4: b"n"})
WRONG_HEADERS: tuple[Any, ...] = (
    {},
    [],
    {1: EDDSA},
    {4: b"n"},
    {1: -7, 4: b"n"},
    {1: -8.0, 4: b"n"},
    {1: EDDSA, 4: "n"},
    {1: EDDSA, 4: b""},
    {1: EDDSA, 4: b"n" * 65},
    {1: EDDSA, 4: b"n\n"},
    {1: EDDSA, 4: b"\xff"},
    {1: EDDSA, 2: [1], 4: b"n"},
    {1: EDDSA, 4: b"n", 5: b""},
)


@pytest.mark.parametrize(
    "parts",
    [
        None,
        {},
        [],
        [HEADER, {}, b"p"],
        [HEADER, {}, b"p", bytes(64), b""],
        [HEADER, {}, b"p", bytes(63)],
        [HEADER, {}, b"p", bytes(65)],
        [HEADER, {}, "p", bytes(64)],
        [HEADER, {}, None, bytes(64)],
        [HEADER, {4: b"m"}, b"p", bytes(64)],
        [HEADER, [], b"p", bytes(64)],
        [{1: EDDSA, 4: b"n"}, {}, b"p", bytes(64)],
        [b"", {}, b"p", bytes(64)],
        [HEADER + b"\0", {}, b"p", bytes(64)],
        *([encode(header), {}, b"p", bytes(64)] for header in WRONG_HEADERS),
    ],
    ids=repr,
)
def test_only_one_form_of_a_signed_message_is_read(parts: Any) -> None:
    with pytest.raises(MalformedError):
        cose.read_signed(b"\xd2" + encode(parts))


SEALED_HEADER = encode({1: A128GCM, PRIVATE_LABEL: []})
WRONG_SEALED_HEADERS: tuple[Any, ...] = (
    {},
    [],
    {1: A128GCM},
    {1: 3, PRIVATE_LABEL: []},
    {1: True, PRIVATE_LABEL: []},
    {1: A128GCM, 4: b"k", PRIVATE_LABEL: []},
)
TO_ONE = encode({1: HPKE_3_KE})
RECIPIENT = [TO_ONE, {-4: bytes(32)}, bytes(32)]


@pytest.mark.parametrize(
    "parts",
    [
        None,
        [],
        [SEALED_HEADER, {5: bytes(12)}, b"c"],
        [SEALED_HEADER, {5: bytes(12)}, b"c", []],
        [SEALED_HEADER, {5: bytes(12)}, b"c", [RECIPIENT, RECIPIENT]],
        [SEALED_HEADER, {5: bytes(12)}, None, [RECIPIENT]],
        [SEALED_HEADER, {5: bytes(11)}, b"c", [RECIPIENT]],
        [SEALED_HEADER, {}, b"c", [RECIPIENT]],
        [SEALED_HEADER, {5: bytes(12), 6: b""}, b"c", [RECIPIENT]],
        [SEALED_HEADER, {5: bytes(12)}, b"c", [[*RECIPIENT, []]]],
        [SEALED_HEADER, {5: bytes(12)}, b"c", [[TO_ONE, {-4: bytes(31)}, bytes(32)]]],
        [SEALED_HEADER, {5: bytes(12)}, b"c", [[TO_ONE, {-4: bytes(32)}, bytes(31)]]],
        [SEALED_HEADER, {5: bytes(12)}, b"c", [[TO_ONE, {4: b"k", -4: bytes(32)}, bytes(32)]]],
        [SEALED_HEADER, {5: bytes(12)}, b"c", [[encode({1: 46}), {-4: bytes(32)}, bytes(32)]]],
        [SEALED_HEADER, {5: bytes(12)}, b"c", [[b"", {1: 49, -4: bytes(32)}, bytes(32)]]],
        *([encode(header), {5: bytes(12)}, b"c", [RECIPIENT]] for header in WRONG_SEALED_HEADERS),
    ],
    ids=repr,
)
def test_only_one_form_of_an_encrypted_message_is_read(parts: Any) -> None:
    with pytest.raises(MalformedError):
        cose.read_encrypted(b"\xd8\x60" + encode(parts))


@given(st.sampled_from([b"", b"\xd2", b"\xd8\x60", b"\xd2\x84", b"\xd8\x60\x84"]), st.binary())
def test_random_bytes_are_malformed(begin: bytes, rest: bytes) -> None:
    for read in (cose.read_signed, cose.read_encrypted):
        with pytest.raises(MalformedError, match=r"^(COSE|CBOR): "):
            read(begin + rest)


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "é", "n" * 65])
def test_a_signer_that_could_not_be_read_does_not_sign(name: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        cose.sign(b"text", name, CONTEXT, ISSUER.sign)
