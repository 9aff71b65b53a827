"""GPIO by the kernel's character devices, through gpiod (libgpiod v2).

A line is one request that stays open for as long as the line: what a pin does after its release is
the chip's choice. The kernel debounces, stamps and numbers the edges and keeps the newest
:data:`~meter_runtime.units.gpio.EDGES_KEPT` of them per line, so a blocked loop loses time, not
count. Nothing here blocks: lines of a SoC answer at once.
"""

import asyncio
import errno
import select
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from meter_runtime.errors import MeterError, nearest
from meter_runtime.units.gpio import EDGES_KEPT, Edge, InputLine, LineSpec, OutputLine

if TYPE_CHECKING:
    import gpiod

DEVICES = Path("/dev")
CONSUMER = "meter-runtime"
"""What ``gpioinfo`` shows beside our lines."""


class GpiodGpio:
    """All lines of the chips in ``devices``, each chip found by its label when it is first asked.

    ``edge_buffer`` is how many edges the kernel shall keep for each line.
    """

    def __init__(self, devices: Path = DEVICES, *, edge_buffer: int = EDGES_KEPT) -> None:
        try:
            import gpiod
        except ImportError:
            raise MeterError(
                "GPIO needs gpiod; install it: pip install 'meter-runtime[rpi]'"
            ) from None
        self._gpiod = gpiod
        self._devices = devices
        self._edge_buffer = edge_buffer
        self._paths: dict[str, str] = {}
        self._open: list[_GpiodInput | _GpiodOutput] = []

    def input(self, line: LineSpec, *, edges: bool = False, debounce_us: int = 0) -> InputLine:
        from gpiod.line import Bias, Direction
        from gpiod.line import Edge as Detection

        settings = self._gpiod.LineSettings(
            direction=Direction.INPUT,
            edge_detection=Detection.BOTH if edges else Detection.NONE,
            bias={"none": Bias.DISABLED, "up": Bias.PULL_UP, "down": Bias.PULL_DOWN}[line.pull],
            active_low=line.active_low,
            debounce_period=timedelta(microseconds=debounce_us),
        )
        opened = _GpiodInput(self._request(line, settings), line, edges=edges)
        self._keep(opened)
        return opened

    def output(self, line: LineSpec, *, initial: bool) -> OutputLine:
        from gpiod.line import Direction, Value

        settings = self._gpiod.LineSettings(
            direction=Direction.OUTPUT,
            active_low=line.active_low,
            output_value=Value.ACTIVE if initial else Value.INACTIVE,
        )
        opened = _GpiodOutput(self._request(line, settings), line, initial)
        self._keep(opened)
        return opened

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _keep(self, opened: "_GpiodInput | _GpiodOutput") -> None:
        self._open = [line for line in self._open if not line.closed]
        self._open.append(opened)

    def _request(self, line: LineSpec, settings: "gpiod.LineSettings") -> "gpiod.LineRequest":
        path = self._path_of(line)
        try:
            return self._gpiod.request_lines(
                path,
                config={line.offset: settings},
                consumer=CONSUMER,
                event_buffer_size=self._edge_buffer,
            )
        except OSError as error:
            # The chip may have come back under another number: look for it anew the next time.
            self._paths.pop(line.chip, None)
            raise MeterError(
                f"{line} ({path}): {error.strerror or error}; {self._remedy(line, path, error)}"
            ) from error
        except ValueError:
            raise MeterError(f"{line} ({path}): the chip has no such line; see gpioinfo") from None

    def _path_of(self, line: LineSpec) -> str:
        if line.chip not in self._paths:
            self._paths, denied = self._find_chips()
            if denied and line.chip not in self._paths:
                raise MeterError(f"{line}: {denied}: {_PERMISSION}")
        path = self._paths.get(line.chip)
        if path is None:
            hint = nearest(line.chip, self._paths)
            raise MeterError(f"{line}: no GPIO chip in {self._devices} has this label; {hint}")
        return path

    def _find_chips(self) -> tuple[dict[str, str], str]:
        """Paths by label, and one that may not be opened, "" where all may.

        A chip can stand there twice: the Pi 5 has a link by the name of earlier kernels.
        """
        found: dict[str, str] = {}
        denied = ""
        for path in sorted(map(str, self._devices.glob("gpiochip*"))):
            try:
                if self._gpiod.is_gpiochip_device(path):
                    with self._gpiod.Chip(path) as chip:
                        found.setdefault(chip.get_info().label, path)
            except PermissionError:
                denied = path
            except OSError:
                continue
        return found, denied

    def _remedy(self, line: LineSpec, path: str, error: OSError) -> str:
        match error.errno:
            case errno.EBUSY:
                return f"{self._holder(line, path)} holds it; stop that or take another line"
            case errno.EACCES | errno.EPERM:
                return _PERMISSION
            case errno.ENXIO:
                return "it has no interrupts; take a line that has"
            case errno.EINVAL:
                return "check its offset: see gpioinfo"
            case _:
                return "check that the chip is there: see gpiodetect"

    def _holder(self, line: LineSpec, path: str) -> str:
        try:
            with self._gpiod.Chip(path) as chip:
                return f'"{chip.get_line_info(line.offset).consumer or "the kernel"}"'
        except (OSError, ValueError):
            return "another program"


_PERMISSION = "no permission; let the meter's user into the group gpio"


@contextmanager
def _told(line: LineSpec) -> Iterator[None]:
    """The library's errors in our words."""
    from gpiod import RequestReleasedError

    try:
        yield
    except RequestReleasedError:
        raise MeterError(f"{line}: it was closed already; open it again") from None
    except OSError as error:
        raise MeterError(
            f"{line}: {error.strerror or error}; check that the chip is there: see gpiodetect"
        ) from error


class _GpiodInput:
    """One requested input line."""

    def __init__(self, request: "gpiod.LineRequest", line: LineSpec, *, edges: bool) -> None:
        self._request = request
        self._line = line
        self._edges = edges
        self._reader: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        return not self._request

    def active(self) -> bool:
        with _told(self._line):
            return bool(self._request.get_value(self._line.offset))

    def take(self) -> list[Edge]:
        from gpiod import EdgeEvent

        if not self._edges:
            raise RuntimeError(f"{self._line} was not opened for edges")
        rising = EdgeEvent.Type.RISING_EDGE
        with _told(self._line):
            if not _is_readable(self._request.fd):
                return []
            return [
                Edge(event.timestamp_ns, event.event_type is rising, event.line_seqno)
                for event in self._request.read_edge_events(EDGES_KEPT)
            ]

    async def edges(self) -> list[Edge]:
        while not (taken := self.take()):
            if self._reader is not None:
                raise RuntimeError(f"{self._line} has a reader already")
            loop = asyncio.get_running_loop()
            reader = self._reader = loop.create_future()
            loop.add_reader(self._request.fd, _wake, reader)
            try:
                await reader
            finally:
                self._forget_reader()
        return taken

    def close(self) -> None:
        if not self.closed:
            self._forget_reader()
            self._request.release()

    def _forget_reader(self) -> None:
        """Take the descriptor off the loop, before its number can be somebody else's."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.get_loop().remove_reader(self._request.fd)
            _wake(reader)


def _is_readable(fd: int) -> bool:
    # Not the library's own wait: that is select(), which knows no descriptor above 1023.
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(0))


def _wake(reader: "asyncio.Future[None]") -> None:
    if not reader.done():
        reader.set_result(None)


class _GpiodOutput:
    """One requested output line."""

    def __init__(self, request: "gpiod.LineRequest", line: LineSpec, initial: bool) -> None:
        self._request = request
        self._line = line
        self._active = initial

    @property
    def closed(self) -> bool:
        return not self._request

    def set(self, active: bool) -> None:
        from gpiod.line import Value

        with _told(self._line):
            self._request.set_value(self._line.offset, Value.ACTIVE if active else Value.INACTIVE)
        self._active = active

    def active(self) -> bool:
        return self._active

    def close(self) -> None:
        if not self.closed:
            self._request.release()
