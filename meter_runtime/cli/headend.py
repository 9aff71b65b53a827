"""``meter-runtime headend``: the utility's side, role by role.

Each role's commands are in a module of their own, which is imported only when one of them is asked
for.
"""

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from meter_runtime.cli.parser import Parser, add_command

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands

ACTIONS = {
    "contract": ("new_system", "customers' contracts"),
    "supply-point": ("new_system", "where the grid ends and a home begins"),
    "meter": ("new_system", "the meters of the supply points"),
    "staff": ("new_system", "who may do what"),
    "import": ("new_system", "a source of the unit selection, from CSV"),
    "select": ("new_system", "the units for a contract, and why"),
    "issue": ("new_system", "a sealed command to a meter, from the business side"),
    "poll": ("new_system", "take the results from the relay"),
    "requests": ("new_system", "what was issued, and how it ended"),
    "work-order": ("work_order", "a command on paper, for a terminal on site"),
    "take-result": ("work_order", "a meter's answer from a terminal's file"),
    "letter": ("new_system", "the customer's letter with ID and password"),
    "service": ("service", "the service to a home: begun, looked at, ended"),
    "audit": ("new_system", "who did what, and whether the log is whole"),
    "relay": ("relay", "run the Relay Server"),
    "scs": ("scs", "run the Supervisory Control System"),
    "send": ("scs", "a command to a meter, from the control side"),
    "sent": ("scs", "what the control side sent, and how it ended"),
    "mdms": ("mdms", "run a collector of half-hour values"),
    "readings": ("mdms", "what the collectors have stored"),
    "gaps": ("mdms", "which half-hours are missing"),
}
"""Each action with the module ``headend_…`` that has it, and its line in the list."""


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "headend",
        "The utility's side: New System, Relay Server, Supervisory Control System and MDMS.",
        "meter-runtime headend relay --lab lab",
    )
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=_Late, title="actions"
    )
    for name, (_, summary) in ACTIONS.items():
        actions.add_parser(name, help=summary, add_help=False)


def run(args: argparse.Namespace) -> int:
    run_action: Callable[[argparse.Namespace], int] = args.run_action
    return run_action(args)


class _Late(Parser):
    """Stands for an action's parser until the action is asked for."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        group, _, name = self.prog.rpartition(" ")
        module = importlib.import_module(f"meter_runtime.cli.headend_{ACTIONS[name][0]}")
        actions = Parser(prog=group).add_subparsers(prog=group, parser_class=Parser)
        module.register(actions)
        parsed, unknown = actions.choices[name].parse_known_args(args, namespace)
        parsed.run_action = module.run
        return parsed, unknown
