"""Where control sockets lie, and which meters of this user are running.

A meter that is not told otherwise puts its socket into this user's runtime directory, which
nobody else may enter; the firmware service uses the system's. A command without ``--control``
talks to the one that lives.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from meter_runtime.control import is_live
from meter_runtime.errors import MeterError, UsageError

SYSTEM_PATH = Path("/run/meter-runtime/control.sock")
_SHARED = Path("/tmp")  # noqa: S108 - the directory made in it is checked for its owner and mode
_ADVICE = "start one with 'meter-runtime bench', or name its socket with --control PATH"


def runtime_dir(environ: Mapping[str, str] = os.environ, shared: Path = _SHARED) -> Path:
    """This user's directory of control sockets, made with mode 0700 where it is missing.

    ``$XDG_RUNTIME_DIR/meter-runtime``, else ``/tmp/meter-runtime-UID``. Raises
    :class:`MeterError` when another user could have planted it.
    """
    session = environ.get("XDG_RUNTIME_DIR")
    if session and Path(session).is_dir():
        folder = Path(session) / "meter-runtime"
    else:
        folder = shared / f"meter-runtime-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as failure:
        raise MeterError(f"{folder}: cannot be made: {failure.strerror}") from None
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise MeterError(f"{folder}: must be a directory of yours with mode 0700; remove it")
    return folder


def find(explicit: Path | None, folder: Path | None = None, system: Path = SYSTEM_PATH) -> Path:
    """The socket to talk to: the one named, else the only live one.

    ``folder`` is :func:`runtime_dir` unless given. Raises :class:`UsageError` listing them
    when several live, :class:`MeterError` when none does.
    """
    if explicit is not None:
        return explicit
    candidates = [*sorted((folder or runtime_dir()).glob("*.sock")), system]
    live: list[Path] = []
    denied: list[Path] = []
    for path in candidates:
        try:
            if is_live(path):
                live.append(path)
        except PermissionError:
            denied.append(path)
    match live, denied:
        case [path], _:
            return path
        case [], [path, *_]:
            raise MeterError(
                f"{path}: permission denied; run as the meter's user or join its group"
            )
        case [], _:
            raise MeterError(f"no meter is running; {_ADVICE}")
    listed = ", ".join(str(path) for path in live)
    raise UsageError(f"several meters are running; choose one with --control: {listed}")
