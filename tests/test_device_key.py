"""The device key is found where it should be, made where it may be, and never shown."""

import copy
import hmac
import logging
import pickle
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime import device_key
from meter_runtime.device_key import DeviceKey, derive, load_device_key, make_device_key
from meter_runtime.errors import UsageError
from meter_runtime.secret import MASK

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default file in a folder of the test's own; no service manager."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(device_key, "DEFAULT_FILE", folder / "device.key")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return folder / "device.key"


def written(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def handed_over(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int = 0o440) -> Path:
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return written(folder / "device-key", KEY.hex(), mode)


@pytest.mark.parametrize("text", [KEY.hex(), KEY.hex().upper(), KEY.hex() + "\n"])
def test_the_named_file_is_read(tmp_path: Path, text: str) -> None:
    assert load_device_key(written(tmp_path / "key", text)) == KEY


def test_the_named_file_goes_before_the_service_managers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over(tmp_path / "credentials", monkeypatch)
    named = written(tmp_path / "key", "77" * 32)
    assert load_device_key(named) == b"\x77" * 32


def test_the_service_managers_goes_before_the_default_file(
    tmp_path: Path, default_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over(tmp_path / "credentials", monkeypatch)
    written(default_file, "77" * 32)
    assert load_device_key(None) == KEY


def test_a_service_manager_that_hands_over_other_things_only_is_passed_by(
    tmp_path: Path, default_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over(tmp_path / "credentials", monkeypatch).unlink()
    written(default_file, "77" * 32)
    assert load_device_key(None) == b"\x77" * 32


def test_a_missing_default_file_is_made_once(
    default_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    key = load_device_key(None)
    assert stat.S_IMODE(default_file.stat().st_mode) == 0o600
    assert default_file.read_text() == key.hex() + "\n"
    assert f"made a device key in {default_file}" in caplog.text
    assert key.hex() not in caplog.text
    assert load_device_key(None) == key


def test_without_a_folder_the_one_command_that_makes_it_is_told(
    tmp_path: Path, default_file: Path
) -> None:
    default_file.parent.rmdir()
    with pytest.raises(UsageError) as failed:
        load_device_key(None)
    assert str(failed.value) == (
        f"{default_file}: there is no device key; make one: (umask 077;"
        f" mkdir -p {default_file.parent}; openssl rand -hex 32 > {default_file})"
    )


def test_a_missing_named_file_is_made_where_its_folder_can_be_written(tmp_path: Path) -> None:
    missing = tmp_path / "my key"
    key = load_device_key(missing)
    assert stat.S_IMODE(missing.stat().st_mode) == 0o600
    assert load_device_key(missing) == key


def test_a_named_file_without_a_folder_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "no folder" / "my key"
    with pytest.raises(UsageError) as failed:
        load_device_key(missing)
    assert str(failed.value).endswith(
        f"there is no device key; make one: (umask 077; mkdir -p '{missing.parent}';"
        f" openssl rand -hex 32 > '{missing}')"
    )


def test_keys_are_made_at_random_and_leave_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    assert make_device_key(folder / "a") != make_device_key(folder / "b")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = written(tmp_path / "key", KEY.hex())
    with pytest.raises(UsageError, match=r"there is a file already.*move it away first"):
        make_device_key(path)
    assert load_device_key(path) == KEY
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["key"]


@pytest.mark.parametrize("call", ["fsync", "write", "hardlink_to"])
def test_a_key_that_cannot_be_written_whole_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    match call:
        case "fsync":
            monkeypatch.setattr("meter_runtime.device_key.os.fsync", fail)
        case "write":
            monkeypatch.setattr("meter_runtime.device_key.os.urandom", fail)
        case _:
            monkeypatch.setattr(Path, "hardlink_to", fail)
    with pytest.raises(UsageError, match="cannot be made: No space left on device; make one: "):
        make_device_key(folder / "key")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644])
def test_a_key_that_everyone_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "key", KEY.hex(), mode)
    with pytest.raises(UsageError, match=f"everyone can reach the device key; chmod 600 {path}"):
        load_device_key(path)


def test_a_group_that_can_reach_it_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_device_key(written(tmp_path / "key", KEY.hex(), 0o640)) == KEY
    assert "its group can reach it; chmod 600 it" in caplog.text


def test_the_service_managers_group_bit_is_no_reason_to_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handed_over(tmp_path / "credentials", monkeypatch)
    assert load_device_key(None) == KEY
    assert not caplog.text


@given(st.binary(max_size=300))
def test_anything_else_is_refused_without_being_quoted(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = written(tmp_path_factory.mktemp("key") / "key", content)
    if device_key._HEX.fullmatch(content[:256]):
        return
    with pytest.raises(UsageError) as failed:
        load_device_key(path)
    assert str(failed.value) == (
        f"{path}: not a device key, which is 64 hex digits; put the right file back"
    )


@pytest.mark.parametrize("content", ["", "ab" * 31, "ab" * 33, "zz" * 32, "ab " * 32, KEY])
def test_near_misses_are_refused(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(UsageError, match="64 hex digits"):
        load_device_key(written(tmp_path / "key", content))


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read: Is a directory; let the meter's user"):
        load_device_key(tmp_path)


def test_no_text_of_it_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    key = DeviceKey(KEY)
    logging.getLogger("test").warning("sealed with %s and %r", key, key)
    texts = [str(key), repr(key), f"{key}", f"{key:>20}", f"{key!r}", repr([key]), caplog.text]
    assert all(MASK in text for text in texts)
    assert not [text for text in texts if repr(KEY)[2:-1] in text or KEY.hex() in text]


def test_it_is_not_serialised() -> None:
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(DeviceKey(KEY))
    with pytest.raises(TypeError, match="not serialised"):
        copy.copy(DeviceKey(KEY))


def test_each_purpose_has_a_key_of_its_own() -> None:
    assert derive(KEY, "a") == derive(DeviceKey(KEY), "a")
    assert len({KEY, derive(KEY, "a"), derive(KEY, "b"), derive(bytes(32), "a")}) == 4
    assert len(derive(KEY, "a")) == 32


def test_a_derived_key_is_hkdf_sha256() -> None:
    # RFC 5869, with the extraction and the one block of expansion written out.
    extracted = hmac.digest(bytes(32), KEY, "sha256")
    assert derive(KEY, "a purpose") == hmac.digest(extracted, b"a purpose\x01", "sha256")
