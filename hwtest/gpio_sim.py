"""The kernel's own GPIO simulator (``gpio-sim``), built for a Debian kernel that comes without it.

Debian configures neither the simulator nor the simulated interrupts that it needs. Both files of
the kernel's source are built into one module against the headers of the kernel they are loaded
into. One call is put otherwise: ``irq_to_desc`` is not for modules, and ``generic_handle_irq``
calls the same handler.
"""

from pathlib import Path

from hwtest.packages import Unpacked, run
from meter_runtime.errors import MeterError

MODULE = "gpio-simulator"

_SOURCES = ("drivers/gpio/gpio-sim.c", "drivers/gpio/gpiolib.h", "kernel/irq/irq_sim.c")
_INTERNAL_CALL = "handle_simple_irq(irq_to_desc(irqnum))"
_PUBLIC_CALL = "generic_handle_irq(irqnum)"
_KBUILD = f"obj-m := {MODULE}.o\n{MODULE}-y := gpio-sim.o irq_sim.o\n"


def built(kernel: Unpacked, cache: Path) -> Path:
    """The module for this kernel, built where the cache has not got it; raises MeterError."""
    place = cache / f"gpio-sim-{kernel.release}"
    module = place / f"{MODULE}.ko"
    if not module.exists():
        place.mkdir(parents=True, exist_ok=True)
        _take_sources(kernel, place)
        _build(kernel, place)
    return module


def _take_sources(kernel: Unpacked, place: Path) -> None:
    archive = next((kernel.root / "usr" / "src").glob("linux-source-*.tar.xz"))
    # The whole archive is a gigabyte; tar may stop once it has met each file.
    names = [f"{archive.name.removesuffix('.tar.xz')}/{source}" for source in _SOURCES]
    flat = ["--transform=s,.*/,,", "--occurrence=1"]
    run(["tar", "-C", str(place), *flat, "-xf", str(archive), *names])
    interrupts = place / "irq_sim.c"
    text = interrupts.read_text()
    if _INTERNAL_CALL not in text:
        raise MeterError(f"{interrupts}: this kernel's simulated interrupts are not as known")
    interrupts.write_text(text.replace(_INTERNAL_CALL, _PUBLIC_CALL))
    (place / "Kbuild").write_text(_KBUILD)


def _build(kernel: Unpacked, place: Path) -> None:
    sources = kernel.root / "usr" / "src"
    headers = sources / f"linux-headers-{kernel.release}"
    # Debian's headers lead to their common part by the place where they would be installed.
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("include /usr/src/", f"include {sources}/"))
    run(["make", "-C", str(headers), f"M={place}", "modules"])
