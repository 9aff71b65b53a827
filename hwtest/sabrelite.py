"""The SABRE Lite: an ARM board with a real I²C controller, and the chips of a meter's bus on it.

Everything runs from memory: the initial RAM file system holds Debian's Python for ARM, and the
project as it is in the working tree. On the bus are an EEPROM of 32 KiB with two address bytes,
kept in a file of the host, and a DS1338.
"""

import hashlib
import importlib.util
import marshal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from hwtest.cpio import Archive
from hwtest.guest import PROJECT
from hwtest.packages import Unpacked
from hwtest.sabrelite_chips import FRAM, ID_EEPROM, ID_EEPROM_SIZE, RTC
from meter_runtime.storage.fram import FRAM_SIZE

PYTHON = (3, 11)
"""The guest's Python. A host with the same one compiles for it, which saves half a minute."""

_PACKAGES = ("meter_runtime", "hwtest")
_MODULES = ("drivers/i2c/i2c-dev", "drivers/i2c/busses/i2c-imx")
_RESULT_PORT = "/dev/ttymxc0"
_CONSOLE = "ttymxc1"
_NO_DMA = "initcall_blacklist=sdma_driver_init"
"""QEMU has no DMA controller of this board: a port that relies on it would never send."""
_UNCHECKED = (1).to_bytes(4, "little") + bytes(8)
"""The rest of a compiled module's head: made from a hash that nobody shall compare (PEP 552)."""

_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in {modules}; do
    $b insmod /modules/$module.ko
done
cd /project
HOME=/tmp TZ=UTC /usr/bin/python3.11 -m hwtest.inside.sabrelite {port} $MODE
$b poweroff -f
"""


def initrd(kernel: Unpacked, cache: Path, place: Path) -> Path:
    """What the kernel starts from, made at ``place``: its system part comes from the cache."""
    known = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    system = cache / f"system-{kernel.release}-{sys.version_info[1]}-{known}.cpio"
    if not system.exists():
        for old in cache.glob("system-*.cpio"):
            old.unlink()
        fresh = system.with_suffix(".new")
        fresh.write_bytes(_system(kernel))
        fresh.rename(system)
    with place.open("wb") as whole:
        for part in (system.read_bytes(), _project()):
            whole.write(part)
    return place


@dataclass(frozen=True, slots=True)
class Chips:
    """The files of the host that the memory chips are kept in."""

    fram: Path
    id_eeprom: Path


def command(kernel: Unpacked, start: Path, console: Path, chips: Chips, mode: str) -> list[str]:
    """QEMU's words for this machine; its first serial port is the result port.

    ``mode`` is what the guest shall do: ``devices`` or ``writing``.
    """
    boot = kernel.root / "boot" / f"vmlinuz-{kernel.release}"
    tree = kernel.root / "usr" / "lib" / f"linux-image-{kernel.release}" / "imx6q-sabrelite.dtb"
    return [
        "qemu-system-arm",
        *("-M", "sabrelite", "-accel", "tcg", "-m", "512", "-no-reboot"),
        *("-display", "none", "-monitor", "none"),
        *("-kernel", str(boot), "-dtb", str(tree), "-initrd", str(start)),
        *("-append", f"console={_CONSOLE},115200 loglevel=4 {_NO_DMA} MODE={mode}"),
        *("-serial", "stdio", "-serial", f"file:{console}"),
        *_memory("fram", chips.fram, FRAM, FRAM_SIZE),
        *_memory("id", chips.id_eeprom, ID_EEPROM, ID_EEPROM_SIZE),
        *("-device", f"ds1338,bus=i2c-bus.0,address={RTC:#x}"),
    ]


def _memory(name: str, kept_in: Path, address: int, size: int) -> list[str]:
    place = str(kept_in).replace(",", ",,")
    chip = f"at24c-eeprom,bus=i2c-bus.0,address={address:#x},rom-size={size},drive={name}"
    return ["-drive", f"if=none,id={name},format=raw,file={place}", "-device", chip]


def _system(kernel: Unpacked) -> bytes:
    archive = Archive()
    archive.console()
    for name in ("proc", "sys", "tmp"):
        archive.directory(name)
    archive.file("bin/busybox", (kernel.root / "bin" / "busybox").read_bytes(), 0o755)
    for place in ("lib/arm-linux-gnueabihf", "usr/lib/arm-linux-gnueabihf"):
        archive.tree(kernel.root / place, place)
    loader = kernel.root / "lib" / "ld-linux-armhf.so.3"
    archive.link("lib/ld-linux-armhf.so.3", str(loader.readlink()))
    interpreter = kernel.root / "usr" / "bin" / "python3.11"
    archive.file("usr/bin/python3.11", interpreter.read_bytes(), 0o755)
    library = "usr/lib/python3.11"
    archive.tree(kernel.root / library, library)
    _add_compiled(archive, kernel.root / library, library)
    modules = kernel.root / "lib" / "modules" / kernel.release / "kernel"
    for module in _MODULES:
        archive.file(f"modules/{Path(module).name}.ko", (modules / f"{module}.ko").read_bytes())
    names = " ".join(Path(module).name for module in _MODULES)
    archive.file("init", _INIT.format(modules=names, port=_RESULT_PORT).encode(), 0o755)
    return archive.finished()


def _project() -> bytes:
    archive = Archive()
    smbus2 = Path(str(distribution("smbus2").locate_file("smbus2")))
    for top in (*(PROJECT / name for name in _PACKAGES), smbus2):
        for path in _sources(top):
            archive.file(f"project/{top.name}/{path.relative_to(top)}", path.read_bytes())
        _add_compiled(archive, top, f"project/{top.name}")
    return archive.finished()


def _add_compiled(archive: Archive, top: Path, name: str) -> None:
    """What Python would otherwise make at each start, on an emulated processor."""
    if sys.version_info[:2] != PYTHON:
        return
    for path in _sources(top):
        inside = f"/{name}/{path.relative_to(top)}"
        try:
            code = compile(path.read_bytes(), inside, "exec", dont_inherit=True)
        except SyntaxError:
            continue  # the library has templates among its modules
        head = importlib.util.MAGIC_NUMBER + _UNCHECKED
        cached = importlib.util.cache_from_source(inside).lstrip("/")
        archive.file(cached, head + marshal.dumps(code))


def _sources(top: Path) -> Iterator[Path]:
    return (path for path in sorted(top.rglob("*.py")) if "__pycache__" not in path.parts)
