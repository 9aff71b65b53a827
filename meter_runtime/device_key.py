"""The device key: the one secret that seals what the meter keeps.

It lies outside the state directory, so that whoever copies the meter's files has nothing. 32 bytes
as 64 hex digits, in the first of these that is named or there:

1. the file that the configuration names (``[storage] device_key_file``);
2. ``$CREDENTIALS_DIRECTORY/device-key``, where the service manager hands it over;
3. :data:`DEFAULT_FILE`.

The first and the last are made when they are missing and their folder can be written. A key made
by mistake does no harm: the vault knows that it was sealed under another one.

Nobody uses the key itself for two things: each use takes its own key by :func:`derive`.
"""

import logging
import os
import re
import shlex
import tempfile
from pathlib import Path

from meter_runtime.errors import UsageError
from meter_runtime.secret import MASK

log = logging.getLogger(__name__)

KEY_BYTES = 32
CREDENTIAL = "device-key"
DEFAULT_FILE = Path("/etc/meter-runtime/device.key")

_HEX = re.compile(rb"[0-9A-Fa-f]{64}\s*")
_READ_LIMIT = 256
_WORLD = 0o007
_GROUP = 0o070


class DeviceKey(bytes):
    """The bytes of a device key; like a :class:`~meter_runtime.secret.Secret` it prints masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"DeviceKey({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce_ex__(self, protocol: object) -> str | tuple[object, ...]:
        raise TypeError("a device key is not serialised")


def derive(key: bytes, purpose: str) -> bytes:
    """The 32-byte key for one purpose: HKDF-SHA256 (RFC 5869), no salt, ``purpose`` as info."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), KEY_BYTES, None, purpose.encode()).derive(key)


def load_device_key(path: Path | None) -> DeviceKey:
    """The device key from ``path``, or from the service manager, or from the default file.

    Raises :class:`UsageError` where there is none and none may be made, where others can read it,
    and where it is not a key; the message never quotes the file.
    """
    folder = _credentials_directory()
    if path is None and folder is not None and os.access(folder / CREDENTIAL, os.F_OK):
        return _read(folder / CREDENTIAL)
    file = path or DEFAULT_FILE
    if not os.access(file, os.F_OK) and os.access(file.parent, os.W_OK | os.X_OK):
        _make(file)
    return _read(file)


def make_device_key(path: Path) -> DeviceKey:
    """Write a new random key to ``path`` (mode 0600), whole or not at all; durable on return.

    Raises :class:`UsageError` where there is a file already: what it seals would be lost.
    """
    if not _make(path):
        raise UsageError(
            f"{path}: there is a file already, and what it seals would be lost with it;"
            " move it away first"
        )
    return _read(path)


def _make(path: Path) -> bool:
    """Make the file; False when there is one."""
    try:
        fd, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(os.urandom(KEY_BYTES).hex().encode() + b"\n")
                file.flush()
                os.fsync(fd)
            # A link, unlike a rename, never replaces a key that another process has just made.
            path.hardlink_to(fresh)
        finally:
            Path(fresh).unlink()
        _fsync_folder(path.parent)
    except FileExistsError:
        return False
    except OSError as failure:
        raise UsageError(
            f"{path}: the device key cannot be made: {failure.strerror}; {_how_to_make(path)}"
        ) from None
    log.info("made a device key in %s; keep a copy in a safe place", path)
    return True


def _read(path: Path) -> DeviceKey:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_READ_LIMIT)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no device key; {_how_to_make(path)}") from None
    except OSError as failure:
        raise UsageError(
            f"{path}: the device key cannot be read: {failure.strerror};"
            " let the meter's user read it"
        ) from None
    if mode & _WORLD:
        raise UsageError(
            f"{path}: everyone can reach the device key; chmod 600 {shlex.quote(str(path))}"
        )
    # The service manager hands credentials over with a group bit that is an ACL's mask.
    if mode & _GROUP and path.parent != _credentials_directory():
        log.warning("%s holds the device key and its group can reach it; chmod 600 it", path)
    if not _HEX.fullmatch(text):
        raise UsageError(
            f"{path}: not a device key, which is 64 hex digits; put the right file back"
        )
    return DeviceKey(bytes.fromhex(text.decode()))


def _how_to_make(path: Path) -> str:
    folder = "" if path.parent.is_dir() else f"mkdir -p {shlex.quote(str(path.parent))}; "
    return f"make one: (umask 077; {folder}openssl rand -hex 32 > {shlex.quote(str(path))})"


def _credentials_directory() -> Path | None:
    name = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(name) if name else None


def _fsync_folder(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
