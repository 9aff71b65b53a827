"""``meter-runtime headend staff|supply-point|contract|meter``: the New System's register.

What the New System's commands have in common stands here, too: their options, their tables.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime.cli.parser import Parser, add_command
from meter_runtime.errors import UsageError

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands
    from meter_runtime.headend.new_system import NewSystem
    from meter_runtime.headend.register_contracts import ContractRecord


def register(commands: "Commands") -> None:
    """Add ``staff``, ``supply-point``, ``contract`` and ``meter``."""
    _register_staff(commands)
    _register_supply_points(commands)
    _register_contracts(commands)
    _register_meters(commands)


def add_lab(parser: argparse.ArgumentParser) -> None:
    """``--lab LAB``."""
    parser.add_argument("--lab", type=Path, required=True, metavar="LAB", help="see 'keys init'")


def add_by(parser: argparse.ArgumentParser) -> None:
    """``--by NAME``: every change has somebody who answers for it."""
    parser.add_argument(
        "--by", required=True, metavar="NAME", help="who answers for it: a member of the staff"
    )


def day(text: str) -> date:
    """A day as ISO 8601 writes it."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f'"{text}" is no day; write one like 2026-11-01') from None


@contextmanager
def opened(args: argparse.Namespace) -> Iterator["NewSystem"]:
    """The New System of ``--lab``."""
    from meter_runtime.headend.lab import Lab
    from meter_runtime.headend.new_system import NewSystem

    with NewSystem.open(Lab.open(args.lab)) as system:
        yield system


def show(rows: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    """Rows as one JSON list, or as a table with the first row's keys above it."""
    told = list(rows)
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    if not told:
        print("none")
        return
    lines: list[Sequence[str]] = [tuple(told[0])]
    lines += [
        tuple("–" if value is None else _word(value) for value in row.values()) for row in told
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def _word(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _actions(commands: "Commands", name: str, description: str, example: str) -> "Commands":
    parser = add_command(commands, name, description, f"meter-runtime headend {example}")
    return parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser, title="actions"
    )


def _add_list(actions: "Commands", name: str, what: str) -> argparse.ArgumentParser:
    listing = actions.add_parser("list", help=f"the {what}")
    listing.epilog = f"example: meter-runtime headend {name} list --lab lab"
    listing.add_argument("--json", action="store_true", help="one document")
    add_lab(listing)
    return listing


def _register_staff(commands: "Commands") -> None:
    actions = _actions(
        commands,
        "staff",
        "Who works here, and what each of them may do.\n"
        "The first person is an administrator, who appoints the others.",
        "staff add Abe --role administrator --lab lab\n"
        '  meter-runtime headend staff add "Mori Aoi" --role broute --lab lab --by Abe',
    )
    adding = actions.add_parser("add", help="take somebody on, or give him other roles")
    adding.epilog = (
        'example: meter-runtime headend staff add "Mori Aoi" --role broute --lab lab --by Abe'
    )
    adding.add_argument("name", metavar="NAME")
    adding.add_argument(
        "--role",
        action="append",
        required=True,
        metavar="ROLE",
        help="administrator, registrar, broute, operator or keys; repeatable",
    )
    adding.add_argument("--by", metavar="NAME", help="the administrator; not for the first person")
    add_lab(adding)
    adding.set_defaults(act=_add_person)
    _add_list(actions, "staff", "staff").set_defaults(act=_list_staff)


def _register_supply_points(commands: "Commands") -> None:
    actions = _actions(
        commands,
        "supply-point",
        "Where the grid ends and a home begins.",
        'supply-point add SP-1 --address "1-2-3 Nakanoshima, Osaka" --lab lab --by Hara',
    )
    adding = actions.add_parser("add", help="a new one")
    adding.epilog = (
        'example: meter-runtime headend supply-point add SP-1 --address "…" --lab lab --by Hara'
    )
    adding.add_argument("id", metavar="ID")
    adding.add_argument("--address", required=True, metavar="TEXT")
    add_by(adding)
    add_lab(adding)
    adding.set_defaults(act=_add_supply_point)
    _add_list(actions, "supply-point", "supply points").set_defaults(act=_list_supply_points)


def _register_contracts(commands: "Commands") -> None:
    actions = _actions(
        commands,
        "contract",
        "Customers and what they agreed to. A supply point has one contract at a time.",
        'contract add C-1001 --customer "Sato Hana" --supply-point SP-1 --accepted 2026-11-01'
        " --lab lab --by Hara",
    )
    adding = actions.add_parser("add", help="a new customer at a supply point")
    adding.epilog = (
        'example: meter-runtime headend contract add C-1001 --customer "Sato Hana"'
        " --supply-point SP-1 --capacity 40 --accepted 2026-11-01 --lab lab --by Hara"
    )
    adding.add_argument("code", metavar="CODE", help="by which every source names it")
    adding.add_argument("--customer", required=True, metavar="NAME")
    adding.add_argument("--supply-point", required=True, metavar="ID")
    adding.add_argument("--renewables", action="store_true", help="the customer feeds in")
    adding.add_argument("--switching", action="store_true", help="supply is switched from afar")
    adding.add_argument("--capacity", type=int, metavar="A", help="ampere of the contract")
    adding.add_argument(
        "--accepted",
        type=day,
        metavar="DAY",
        help="when the application for the B-route was accepted; nothing from before is served",
    )
    add_by(adding)
    add_lab(adding)
    adding.set_defaults(act=_add_contract)

    applying = actions.add_parser("apply", help="an application for the B-route was accepted")
    applying.epilog = (
        "example: meter-runtime headend contract apply C-1001 --accepted 2026-11-01 --lab lab"
        " --by Hara"
    )
    applying.add_argument("code", metavar="CODE")
    applying.add_argument("--accepted", type=day, required=True, metavar="DAY")
    add_by(applying)
    add_lab(applying)
    applying.set_defaults(act=_apply)

    ending = actions.add_parser("end", help="the customer leaves")
    ending.epilog = "example: meter-runtime headend contract end C-1001 --lab lab --by Hara"
    ending.add_argument("code", metavar="CODE")
    add_by(ending)
    add_lab(ending)
    ending.set_defaults(act=_end)
    _add_list(actions, "contract", "contracts").set_defaults(act=_list_contracts)


def _register_meters(commands: "Commands") -> None:
    actions = _actions(
        commands,
        "meter",
        "Meters, their supply points, and how far their credentials have come.",
        "meter add M-0001 --supply-point SP-1 --lab lab --by Hara",
    )
    adding = actions.add_parser("add", help="a meter was hung")
    adding.epilog = (
        "example: meter-runtime headend meter add M-0001 --supply-point SP-1 --lab lab --by Hara"
    )
    adding.add_argument("id", metavar="ID")
    adding.add_argument("--supply-point", required=True, metavar="ID")
    adding.add_argument(
        "--route-b-id", metavar="HEX", help="that it has already, 32 hex digits (default: drawn)"
    )
    adding.add_argument(
        "--hung",
        type=day,
        metavar="DAY",
        help="for a meter that has measured elsewhere; nothing from before is served",
    )
    add_by(adding)
    add_lab(adding)
    adding.set_defaults(act=_add_meter)

    replacing = actions.add_parser("replace", help="another meter hangs in its place from today")
    replacing.epilog = (
        "example: meter-runtime headend meter replace M-0001 M-0101 --lab lab --by Hara"
    )
    replacing.add_argument("old", metavar="OLD")
    replacing.add_argument("new", metavar="NEW", help="its id; see 'meter-runtime keys enroll'")
    add_by(replacing)
    add_lab(replacing)
    replacing.set_defaults(act=_replace_meter)
    _add_list(actions, "meter", "meters").set_defaults(act=_list_meters)


def _add_person(args: argparse.Namespace) -> int:
    from meter_runtime.headend.authority import parse_roles

    with opened(args) as system:
        person = system.staff.add(system.now(), args.name, parse_roles(args.role), args.by)
    print(f"{person.name}: {', '.join(sorted(person.roles))}")
    return 0


def _list_staff(args: argparse.Namespace) -> int:
    with opened(args) as system:
        people = system.staff.people()
    if args.json:
        show(
            ({"name": person.name, "roles": sorted(person.roles)} for person in people),
            as_json=True,
        )
    else:
        show(
            ({"name": each.name, "roles": ", ".join(sorted(each.roles))} for each in people),
            as_json=False,
        )
    return 0


def _add_supply_point(args: argparse.Namespace) -> int:
    from meter_runtime.headend.register_contracts import SupplyPoint

    with opened(args) as system:
        system.register.add_supply_point(system.now(), args.by, SupplyPoint(args.id, args.address))
    print(f"supply point {args.id}")
    return 0


def _list_supply_points(args: argparse.Namespace) -> int:
    with opened(args) as system:
        points = system.register.supply_points()
        system.viewed("supply points")
    show(({"id": point.id, "address": point.address} for point in points), as_json=args.json)
    return 0


def _add_contract(args: argparse.Namespace) -> int:
    from meter_runtime.headend.register_contracts import ContractRecord

    contract = ContractRecord(
        args.code,
        args.customer,
        args.supply_point,
        renewables=args.renewables,
        switching=args.switching,
        capacity_a=args.capacity,
        accepted_on=args.accepted,
    )
    with opened(args) as system:
        system.register.add_contract(system.now(), args.by, contract)
    print(f"contract {args.code} at {args.supply_point}")
    return 0


def _apply(args: argparse.Namespace) -> int:
    with opened(args) as system:
        system.register.apply_for_broute(system.now(), args.by, args.code, args.accepted)
    print(f"contract {args.code}: B-route from {args.accepted}")
    return 0


def _end(args: argparse.Namespace) -> int:
    with opened(args) as system:
        left = system.register.end_contract(system.now(), args.by, args.code)
    print(f"contract {args.code} has ended")
    if left:
        meters = ", ".join(meter.id for meter in left)
        print(
            f"{meters}: the customer's credentials still hold; end them:"
            f" meter-runtime headend service end {args.code} --reason moved-out --by NAME"
        )
    return 0


def _list_contracts(args: argparse.Namespace) -> int:
    with opened(args) as system:
        contracts = system.register.contracts()
        system.viewed("contracts")
    show((_contract(contract) for contract in contracts), as_json=args.json)
    return 0


def _contract(contract: "ContractRecord") -> dict[str, Any]:
    def iso(when: date | None) -> str | None:
        return None if when is None else when.isoformat()

    return {
        "code": contract.code,
        "customer": contract.customer,
        "supply_point": contract.supply_point,
        "renewables": contract.renewables,
        "switching": contract.switching,
        "capacity_a": contract.capacity_a,
        "accepted_on": iso(contract.accepted_on),
        "ended_on": iso(contract.ended_on),
    }


def _add_meter(args: argparse.Namespace) -> int:
    with opened(args) as system:
        meter = system.register.add_meter(
            system.now(),
            args.by,
            args.id,
            args.supply_point,
            args.route_b_id,
            hung_on=args.hung,
        )
    print(f"meter {meter.id} at {meter.supply_point}, route-B ID {meter.route_b_id}")
    return 0


def _replace_meter(args: argparse.Namespace) -> int:
    with opened(args) as system:
        meter = system.register.replace_meter(system.now(), args.by, args.old, args.new)
        contract = system.register.contract_at(meter.supply_point)
    print(f"meter {meter.id} at {meter.supply_point}, route-B ID {meter.route_b_id}")
    if contract is not None and contract.is_served:
        print(
            "its home takes new credentials:"
            f" meter-runtime headend service begin {contract.code} --by NAME"
        )
    return 0


def _list_meters(args: argparse.Namespace) -> int:
    with opened(args) as system:
        rows = [
            {
                "id": meter.id,
                "supply_point": meter.supply_point,
                "route_b_id": meter.route_b_id,
                "credentials": system.credentials(meter).value,
                "credential_version": meter.credential_version,
                "contract": meter.contract,
                "removed_on": None if meter.removed_on is None else meter.removed_on.isoformat(),
                "replaced_by": meter.replaced_by,
            }
            for meter in system.register.meters()
        ]
    show(rows, as_json=args.json)
    return 0
