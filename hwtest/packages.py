"""What the test is made of: programs that must be installed, and Debian packages that need not be.

Kernels, their headers and sources, and the programs of the guests are fetched by apt, checked by
its signatures as always, and unpacked into a cache of our own: nothing of them is installed, and
the system's list of packages, its architectures and its boot loader stay as they are.
"""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from meter_runtime.errors import MeterError

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-arm": "qemu-system-arm",
    "gcc-12": "gcc-12",
    "make": "make",
    "xz": "xz-utils",
}
"""What must be installed: each program and the package that has it. Debian 12 builds its kernels,
and so whatever is loaded into them, with GCC 12."""

KERNEL = "6.1"
"""The kernel of Debian 12."""

BOUND_S = 600
"""For any one program, apt and its downloads above all."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Packages of one architecture; ``kernel`` is the one that names the present kernel."""

    architecture: str
    kernel: str
    with_kernel: tuple[str, ...]
    """Packages named after the kernel's release: ``{}``, or ``{common}`` without its flavour."""
    others: tuple[str, ...]


PC = Selection(
    "amd64",
    "linux-image-amd64",
    ("linux-image-{}", "linux-headers-{}", "linux-headers-{common}"),
    (f"linux-kbuild-{KERNEL}", f"linux-source-{KERNEL}", "busybox-static"),
)
SABRELITE = Selection(
    "armhf",
    "linux-image-armmp",
    ("linux-image-{}",),
    (
        "busybox-static",
        *("libc6", "libgcc-s1", "libbz2-1.0", "libcrypt1", "libexpat1", "libffi8", "liblzma5"),
        *("libssl3", "libuuid1", "zlib1g"),
        *("libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal"),
    ),
)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A selection's files, and the release of its kernel (``uname -r``)."""

    root: Path
    release: str


def cache_directory() -> Path:
    """Where everything is kept that need not be made again; outside the source tree."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "meter-runtime" / "hwtest"


def require_programs() -> None:
    """Install what is missing as root; raises MeterError with the command to anyone else."""
    missing = sorted({package for name, package in PROGRAMS.items() if shutil.which(name) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise MeterError(f"needs {', '.join(missing)} on a Debian 12 system, and apt-get to get it")
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise MeterError(f"some programs are missing; install them: sudo {' '.join(command)}")
    run(["apt-get", "update"])
    run(command)


def unpacked(selection: Selection, cache: Path) -> Unpacked:
    """The selection, fetched and unpacked where the cache has not got it.

    Once there it stays: remove the cache to have newer kernels. Raises MeterError.
    """
    place = cache / selection.architecture
    stamp = place / "complete"
    wanted = hashlib.sha256(repr(selection).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text().split()[0] != wanted:
        shutil.rmtree(place, ignore_errors=True)
        release = _fetch(selection, place)
        stamp.write_text(f"{wanted} {release}\n")
    return Unpacked(place / "root", stamp.read_text().split()[1])


def _fetch(selection: Selection, place: Path) -> str:
    apt = _private_apt(selection.architecture, place / "apt")
    # An index that cannot be had is no failure yet: the packages may all stand in another.
    run(["apt-get", *apt, "update"], must=False)
    shown = run(["apt-cache", *apt, "depends", "--important", selection.kernel])
    image = next(
        (word for word in shown.split() if word.startswith(f"linux-image-{KERNEL}.")), None
    )
    if image is None:
        raise MeterError(
            f"apt offers no {selection.kernel} of Debian 12; run on Debian 12, or add its sources"
        )
    release = image.removeprefix("linux-image-")
    common = f"{release.rpartition('-')[0]}-common"
    archives = place / "archives"
    archives.mkdir(parents=True)
    named = [name.format(release, common=common) for name in selection.with_kernel]
    run(["apt-get", *apt, "download", *named, *selection.others], where=archives)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg-deb", "--extract", str(archive), str(place / "root")])
        archive.unlink()
    return release


def _private_apt(architecture: str, place: Path) -> list[str]:
    """Options for an apt of one architecture with the system's sources and keys, and no state of
    the system's."""
    (place / "lists" / "partial").mkdir(parents=True)
    (place / "status").touch()
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",  # apt's own user may not write into a home directory
        "Dir::State": str(place),
        "Dir::State::lists": str(place / "lists"),
        "Dir::State::status": str(place / "status"),
        "Dir::Cache": str(place),
    }
    return ["-q", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]


def run(command: list[str], where: Path | None = None, *, must: bool = True) -> str:
    """What the command printed; MeterError with its last line when it failed and must not."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        ended = subprocess.run(  # noqa: S603 - our own words
            command,
            cwd=where,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
    except FileNotFoundError:
        raise MeterError(f"{command[0]} is missing; run on a Debian 12 system") from None
    except subprocess.TimeoutExpired:
        raise MeterError(f"{command[0]} took more than {BOUND_S} s; try again") from None
    if must and ended.returncode:
        reason = (ended.stdout.strip().splitlines() or ["no reason given"])[-1]
        raise MeterError(f"{' '.join(command[:1] + command[-1:])} failed: {reason}")
    return ended.stdout
