"""The commands: one file each, imported only when asked for.

A command's module has ``register(commands)``, which adds its parser, and ``run(args)``, which
returns the exit status: 0 done, 1 the world failed, 2 wrongly asked. What a person sees of a
failure is one line on standard error.
"""

import importlib
import io
import os
import sys
from collections.abc import Sequence

from meter_runtime import __version__
from meter_runtime.cli.parser import Parser
from meter_runtime.errors import MeterError, UsageError, nearest

COMMANDS = {
    "run": "the meter on its hardware: discover, check, serve",
    "bench": "the same meter in a virtual laboratory, nothing to plug in",
    "status": "the running meter at a glance",
    "units": "what is plugged in: detect, label, list, check, count, explain",
    "history": "a day of half-hour values; all of them, exported and imported",
    "advance": "move a bench meter's clock forward",
    "clock": "set, step or tune a bench meter's clock",
    "headend": "the utility's side: New System, relay, control system, MDMS",
    "keys": "keys and certificates: a laboratory's, a meter's, an issuer's new one",
    "handheld": "a hand-held terminal: work orders and diagnosis at the meter's local port",
    "inject": "begin a fault on a running bench",
    "clear": "end a fault, or all of them",
}
"""Each command's name, which is also its module's, and its line in the list."""

_INTERRUPTED = 130
_NOBODY_READS = 141
"""Exit statuses a shell gives a program that ends by SIGINT and SIGPIPE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a bar is not worth a traceback
    try:
        try:
            status = _dispatch(sys.argv[1:] if argv is None else list(argv))
        finally:
            # While a reader that has gone can still be forgiven.
            sys.stdout.flush()
    except UsageError as wrong:
        return _complain(wrong, 2)
    except MeterError as failure:
        return _complain(failure, 1)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # What is still buffered must not fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    return status


def _dispatch(argv: list[str]) -> int:
    name = next((word for word in argv if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        raise UsageError(f'no command "{name}"; {nearest(name, COMMANDS)}')
    parser = Parser(
        prog="meter-runtime",
        description="A Raspberry Pi as a Japanese smart meter, and the laboratory around it.",
        epilog="Each command explains itself: meter-runtime COMMAND --help",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    module = importlib.import_module(f"{__name__}.{name}") if name is not None else None
    for command, summary in COMMANDS.items():
        if module is not None and command == name:
            module.register(commands)
        else:
            commands.add_parser(command, help=summary)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        command = f"{parser.prog} {name}" if name is not None else parser.prog
        word = unknown[0].partition("=")[0]  # what follows may be a password
        raise UsageError(f"\"{word}\" is not an option here; see '{command} --help'")
    if module is None:
        print(parser.format_help(), end="")
        return 0
    status: int = module.run(args)
    return status


def _complain(failure: MeterError, status: int) -> int:
    line = " ".join(str(failure).split())
    print(f"meter-runtime: {line}", file=sys.stderr)
    return status
