"""What the figures were measured on."""

import os
import platform
import tempfile
import time
from pathlib import Path

from meter_runtime import __version__
from meter_runtime.clock import jst

_CPU_KEYS = ("Model", "model name")
"""In ``/proc/cpuinfo``: a Raspberry Pi's board first, else a processor's name."""


def describe() -> dict[str, str | int]:
    """The machine, the interpreter, this program's version, and when it was."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "files": _file_system(Path(tempfile.gettempdir())),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "meter-runtime": __version__,
        "date": jst(time.time()).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    found = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    return next((found[key] for key in _CPU_KEYS if key in found), platform.machine())


def _file_system(directory: Path) -> str:
    """Where the benchmarks' files are: the kind of file system and its device."""
    place = directory.resolve()
    found, found_on = "unknown", ""
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        device, mounted_on, kind, *_ = line.split()
        # The last of those that hold it lies on top.
        if place.is_relative_to(mounted_on) and len(mounted_on) >= len(found_on):
            found, found_on = f"{kind} on {device}", mounted_on
    return found
