"""The PC: a kernel with simulated GPIO, in which the host's virtual environment runs.

It has one processor, no disk and no network. Its root is the host's own file system, read-only by
9p, with a device, process and temporary file system of its own; so it needs no Python of its own.
"""

import shlex
import sys
from pathlib import Path

from hwtest.cpio import Archive
from hwtest.guest import PROJECT
from hwtest.packages import Unpacked

_MODULES = (
    *("fs/netfs/netfs", "fs/fscache/fscache", "net/9p/9pnet"),
    *("drivers/virtio/virtio_ring", "drivers/virtio/virtio"),
    *("drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci_legacy_dev"),
    *("drivers/virtio/virtio_pci", "net/9p/9pnet_virtio", "fs/9p/9p"),
    *("fs/configfs/configfs", "drivers/i2c/i2c-dev", "drivers/i2c/i2c-stub"),
)
"""Those before their users; i2c-stub pretends a chip at :data:`STUB_ADDRESS`."""

STUB_ADDRESS = 0x50

_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in {modules}; do
    case $module in
        i2c-stub) $b insmod /modules/$module.ko chip_addr={stub} ;;
        *) $b insmod /modules/$module.ko ;;
    esac
done
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 host /host
for place in proc sys dev; do
    $b mount --move /$place /host/$place
done
$b mount -t tmpfs tmp /host/tmp
$b mount -t configfs config /host/sys/kernel/config
$b ip link set lo up
cd /
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp \
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={project} TZ=UTC \
    $b chroot /host {python} -P -m hwtest.inside.pc /dev/ttyS1
$b poweroff -f
"""


def initrd(kernel: Unpacked, gpio_sim: Path) -> bytes:
    """What the kernel starts from: busybox, modules and the first process."""
    archive = Archive()
    archive.console()
    for name in ("proc", "sys", "dev", "host"):
        archive.directory(name)
    archive.file("bin/busybox", (kernel.root / "bin" / "busybox").read_bytes(), 0o755)
    tree = kernel.root / "lib" / "modules" / kernel.release / "kernel"
    modules = [*(tree / f"{module}.ko" for module in _MODULES), gpio_sim]
    for module in modules:
        archive.file(f"modules/{module.name}", module.read_bytes())
    init = _INIT.format(
        modules=" ".join(module.stem for module in modules),
        stub=STUB_ADDRESS,
        python=shlex.quote(sys.executable),
        project=shlex.quote(str(PROJECT)),
    )
    archive.file("init", init.encode(), 0o755)
    return archive.finished()


def command(kernel: Unpacked, start: Path, console: Path) -> list[str]:
    """QEMU's words for this machine; its second serial port is the result port."""
    return [
        "qemu-system-x86_64",
        *("-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "512", "-no-reboot"),
        *("-nodefaults", "-display", "none", "-monitor", "none"),
        *("-kernel", str(kernel.root / "boot" / f"vmlinuz-{kernel.release}")),
        *("-initrd", str(start)),
        *("-append", "console=ttyS0 loglevel=4 panic=-1 random.trust_cpu=on"),
        *("-serial", f"file:{console}", "-serial", "stdio"),
        "-virtfs",
        "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
    ]
