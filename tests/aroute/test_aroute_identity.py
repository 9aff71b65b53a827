"""Keys: the meter's own, and those of issuers and carriers in their files."""

import copy
import pickle
import stat
from pathlib import Path

import pytest
from aroute_samples import METER, OTHER_METER
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from meter_runtime.aroute.identity import MeterIdentity, PublicKeys, SigningKey
from meter_runtime.device_key import derive
from meter_runtime.errors import MeterError, UsageError


def pem(key: Ed25519PrivateKey | X25519PrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_the_same_device_key_is_the_same_meter() -> None:
    again = MeterIdentity.from_device_key(bytes(range(32)))
    assert again.public == METER.public
    assert again.public != OTHER_METER.public


def test_a_meter_keeps_its_keys_through_every_version() -> None:
    """Who changes how they are derived has every meter enrolled anew."""
    assert METER.public.fingerprint() == "933F 9440 BBA9 8AF5 F934 D1FF 682D DA9B"


def test_sealing_and_signing_share_no_key_with_anything() -> None:
    raw = bytes(range(32))
    assert METER.public.sealing != METER.public.signing
    for purpose in ("meter-runtime vault 1", "meter-runtime result signing 1"):
        other = X25519PrivateKey.from_private_bytes(derive(raw, purpose))
        assert METER.public.sealing != other.public_key().public_bytes_raw()


def test_public_keys_go_through_json() -> None:
    document = METER.public.as_json()
    assert document == {
        "sealing": METER.public.sealing.hex(),
        "signing": METER.public.signing.hex(),
    }
    assert PublicKeys.from_json({**document, "more": 1}) == METER.public


@pytest.mark.parametrize("value", [None, 1, "", "zz", "00" * 31, "00" * 33])
def test_what_is_no_public_key_is_refused(value: object) -> None:
    for name in ("sealing", "signing"):
        with pytest.raises(UsageError, match="a public key"):
            PublicKeys.from_json(METER.public.as_json() | {name: value})


def test_a_fingerprint_tells_keys_apart() -> None:
    mixed = PublicKeys(METER.public.sealing, OTHER_METER.public.signing)
    prints = [keys.fingerprint() for keys in (METER.public, OTHER_METER.public, mixed)]
    assert len(set(prints)) == 3
    assert all(len(one.split()) == 8 for one in prints)


def test_a_signing_key_is_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "issuer.key"
    key = SigningKey.generate()
    key.to_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["issuer.key"]
    again = SigningKey.from_file(path)
    assert again.public == key.public
    Ed25519PublicKey.from_public_bytes(key.public).verify(again.sign(b"text"), b"text")


def test_a_signing_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "issuer.key"
    SigningKey.generate().to_file(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="a file already"):
        SigningKey.generate().to_file(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_signing_key_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="cannot be written: No such file"):
        SigningKey.generate().to_file(tmp_path / "nowhere" / "issuer.key")


def test_a_signing_key_that_everyone_can_reach_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "issuer.key"
    SigningKey.generate().to_file(path)
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        SigningKey.from_file(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hunter2",
        b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
        pem(X25519PrivateKey.generate()),
        pem(Ed25519PrivateKey.generate(), b"hunter2"),
        pem(Ed25519PrivateKey.generate())[:60],
    ],
    ids=["empty", "text", "no base64", "X25519", "encrypted", "cut off"],
)
def test_another_file_is_no_signing_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "issuer.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="not an Ed25519 key") as refused:
        SigningKey.from_file(path)
    assert "hunter2" not in str(refused.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"issuer\.key: the signing key cannot be read: No such"):
        SigningKey.from_file(tmp_path / "issuer.key")


def test_private_keys_are_neither_printed_nor_pickled() -> None:
    key = SigningKey.generate()
    assert repr(key) == str(key) == "SigningKey(••••••)"
    assert repr(METER) == f"MeterIdentity({METER.public.fingerprint()})"
    for private in (key, METER):
        with pytest.raises(TypeError, match="not serialised"):
            pickle.dumps(private)
        with pytest.raises(TypeError, match="not serialised"):
            copy.deepcopy(private)
