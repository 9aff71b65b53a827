"""How every command's options look: the same manners, the same one-line mistakes."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from meter_runtime.errors import UsageError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are :class:`UsageError`, not two lines and an exit."""

    intermixed = False
    """Options may stand among the arguments of a list."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        if not self.intermixed:
            return super().parse_known_args(args, namespace)
        self.intermixed = False  # it comes back here for each of its two passes
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.intermixed = True

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def add_command(commands: "Commands", name: str, description: str, example: str) -> Parser:
    """A command's parser: its description above its options, an example below them."""
    return commands.add_parser(
        name,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_control_option(parser: argparse.ArgumentParser) -> None:
    """``--control PATH`` of the commands that talk to a running meter."""
    parser.add_argument(
        "--control",
        type=Path,
        metavar="PATH",
        help="the meter's control socket; without it, the one running meter of this user",
    )
