"""A small file system to fill, to make read-only and to break, in a mount namespace of its own.

What is done to it happens to nobody else, and it is gone with the last process in it. It needs
user namespaces, or root; a disk that fails needs root and a loop device.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

WITHIN_S = 20.0
SIZE = 1 << 20
_LOOP_SET_STATUS64, _LOOP_GET_STATUS64 = 0x4C04, 0x4C05
_LOOP_INFO_SIZE, _SIZE_LIMIT_AT = 232, 32


class SmallDisk:
    """A file system at ``path``, for the processes :meth:`inside` it."""

    def __init__(self, path: Path, holder: int, device: str, own_users: bool) -> None:
        self.path = path
        self._holder = holder
        self._device = device
        self._own_users = own_users

    def inside(self, *argv: str | Path) -> tuple[str | Path, ...]:
        """The command line that runs this one where the file system is."""
        users = ("-U", "--preserve-credentials") if self._own_users else ()
        return ("nsenter", "-t", str(self._holder), "-m", *users, "--", *argv)

    async def do(self, script: str) -> str:
        """Run a line of shell in there; what it says."""
        process = await asyncio.create_subprocess_exec(
            *self.inside("sh", "-ec", script),
            cwd="/",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WITHIN_S):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def fill(self) -> None:
        """Leave no byte free."""
        filler = self.path / "filler"
        await self.do(f"cat /dev/zero >{filler} 2>/dev/null || test -s {filler}")

    async def free(self) -> None:
        """Undo :meth:`fill`."""
        await self.do(f"rm {self.path}/filler")

    async def read_only(self) -> None:
        """Remount it so; it must not be in use."""
        await self.do(f"mount -o remount,ro {self.path}")

    async def writable(self) -> None:
        """Undo :meth:`read_only`."""
        await self.do(f"mount -o remount,rw {self.path}")

    def fail(self, failing: bool) -> None:
        """A disk on a loop device: from now on all but its first sectors fail, or no more."""
        device = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        try:
            info = bytearray(_LOOP_INFO_SIZE)
            fcntl.ioctl(device, _LOOP_GET_STATUS64, info)
            struct.pack_into("<Q", info, _SIZE_LIMIT_AT, 4096 if failing else 0)
            fcntl.ioctl(device, _LOOP_SET_STATUS64, bytes(info))
        finally:
            os.close(device)


@asynccontextmanager
async def in_memory(path: Path) -> AsyncIterator[SmallDisk]:
    """A tmpfs of one megabyte."""
    if not _runs("unshare", "-Urm", "true"):
        pytest.skip("no user namespaces here: a file system of one's own cannot be mounted")
    mount = f"mount -t tmpfs -o size={SIZE},mode=700 tmpfs {path}"
    async with _mounted(path, mount, own_users=True) as disk:
        yield disk


@asynccontextmanager
async def on_loop_device(path: Path, image: Path) -> AsyncIterator[SmallDisk]:
    """An ext2 in the file ``image``, made where that is missing; :meth:`SmallDisk.fail` works."""
    if os.getuid() != 0 or not _runs("losetup", "-f") or shutil.which("mkfs.ext2") is None:
        pytest.skip("a disk that fails needs root, a loop device and mkfs.ext2")
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(4 * SIZE)
        assert _runs("mkfs.ext2", "-q", "-F", str(image))
    mount = f"mount -o loop,errors=continue {image} {path}"
    async with _mounted(path, mount, own_users=False) as disk:
        yield disk
    async with asyncio.timeout(WITHIN_S):  # until the last process has left and it is unmounted
        while str(image) in _said("losetup", "-a"):  # noqa: ASYNC110 - the kernel's business
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _mounted(path: Path, mount: str, *, own_users: bool) -> AsyncIterator[SmallDisk]:
    path.mkdir(exist_ok=True)
    script = f"{mount} && findmnt -no SOURCE {path} && exec cat"
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "-Urm" if own_users else "-m", "--propagation", "private"),
        *("sh", "-ec", script),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S):
            device = (await holder.stdout.readline()).decode().strip()
        if not device:
            _, err = await holder.communicate()
            pytest.skip(f"no file system can be mounted here: {err.decode().strip()}")
        yield SmallDisk(path, holder.pid, device, own_users)
    finally:
        with contextlib.suppress(ProcessLookupError):
            holder.kill()
        await holder.communicate()


def _runs(*argv: str) -> bool:
    try:
        done = subprocess.run(argv, check=False, capture_output=True)  # noqa: S603 - ours
        return done.returncode == 0
    except OSError:
        return False


def _said(*argv: str) -> str:
    done = subprocess.run(argv, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return done.stdout
