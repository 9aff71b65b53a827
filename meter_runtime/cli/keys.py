"""``meter-runtime keys``: a laboratory's keys and certificates, and whom they are given to.

What is shown is names, fingerprints and dates. No private key is ever printed.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meter_runtime import config
from meter_runtime.aroute.identity import MeterIdentity, PublicKeys, SigningKey
from meter_runtime.cli import keys_rotate
from meter_runtime.cli.parser import Parser, add_command
from meter_runtime.device_key import load_device_key
from meter_runtime.errors import UsageError
from meter_runtime.headend import certificates
from meter_runtime.headend.lab import (
    DEFAULT_BROKER_PORT,
    DEFAULT_BUSINESS_PORT,
    DEFAULT_CONTROL_PORT,
    ISSUER_KEYS,
    ROLES,
    SCS,
    Lab,
)
from meter_runtime.headend.meter_files import identity_document, read_identity

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands


def register(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "keys",
        "Keys and certificates: make a laboratory's, enroll meters, change an issuer's key.",
        "meter-runtime keys init lab",
    )
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser, title="actions"
    )
    _register_init(actions)
    _register_show(actions)
    _register_enroll(actions)
    adding = actions.add_parser("terminal", help="keys for one more hand-held terminal")
    adding.description = (
        "Make a hand-held terminal's keys. Meters obey it once they have the new trust file."
    )
    adding.epilog = "example: meter-runtime keys terminal lab van-7"
    adding.add_argument("lab", type=Path, metavar="LAB")
    adding.add_argument("name", metavar="NAME", help="1 to 16 of a-z, 0-9 and -")
    adding.add_argument(
        "--lost", action="store_true", help="take this one out: meters no longer obey it"
    )
    adding.set_defaults(act=_terminal)
    keys_rotate.register(actions)


def run(args: argparse.Namespace) -> int:
    status: int = args.act(args)
    return status


def _register_init(actions: "Commands") -> None:
    making = actions.add_parser("init", help="make a laboratory: every role's keys")
    making.description = (
        "Make a folder with a certificate authority, the keys and certificates of every role, the"
        " meters' trust file, and Mosquitto's configuration. Nothing is ever replaced."
    )
    making.epilog = "example: meter-runtime keys init lab --host broker.local"
    making.add_argument("lab", type=Path, metavar="LAB", help="a folder that is not there yet")
    making.add_argument("--utility", default="kansai", metavar="NAME", help="default: kansai")
    making.add_argument(
        "--host", default="localhost", metavar="HOST", help="of broker and relay, as meters know it"
    )
    for option, port in (
        ("--broker-port", DEFAULT_BROKER_PORT),
        ("--business-port", DEFAULT_BUSINESS_PORT),
        ("--control-port", DEFAULT_CONTROL_PORT),
    ):
        making.add_argument(option, type=int, default=port, metavar="PORT", help=f"default: {port}")
    making.set_defaults(act=_init)


def _register_show(actions: "Commands") -> None:
    showing = actions.add_parser("show", help="fingerprints and expiry dates")
    showing.description = (
        "A laboratory's keys and certificates, or with --config the public identity of the meter"
        " on this machine. With --json that is the document 'keys enroll --identity' takes."
    )
    showing.epilog = "example: meter-runtime keys show --config meter.toml --json > M1.json"
    showing.add_argument("lab", type=Path, metavar="LAB", nargs="?")
    showing.add_argument("--config", type=Path, metavar="FILE", help="the meter's configuration")
    showing.add_argument("--json", action="store_true", help="one document")
    showing.set_defaults(act=_show)


def _register_enroll(actions: "Commands") -> None:
    enrolling = actions.add_parser("enroll", help="give a meter its certificate and trust file")
    enrolling.description = (
        "Make the folder of one meter and print the section for its configuration. The meter is"
        " the one of --config on this machine, or the one whose public identity is in --identity."
    )
    enrolling.epilog = "example: meter-runtime keys enroll lab --config meter.toml"
    enrolling.add_argument("lab", type=Path, metavar="LAB")
    enrolling.add_argument("--config", type=Path, metavar="FILE", help="the meter's configuration")
    enrolling.add_argument("--meter", metavar="ID", help="whose identity it must be")
    enrolling.add_argument("--identity", type=Path, metavar="FILE", help="from 'keys show --json'")
    enrolling.set_defaults(act=_enroll)


def _init(args: argparse.Namespace) -> int:
    lab = Lab.create(
        args.lab,
        utility=args.utility,
        broker_host=args.host,
        broker_port=_port(args.broker_port, "--broker-port"),
        business_port=_port(args.business_port, "--business-port"),
        control_port=_port(args.control_port, "--control-port"),
    )
    print(
        f"made {lab.path}\n"
        f"  broker:  mosquitto -c {lab.folder('broker') / 'mosquitto.conf'}\n"
        f"  relay:   meter-runtime headend relay --lab {args.lab}\n"
        f"  control: meter-runtime headend scs --lab {args.lab}\n"
        f"  meters:  meter-runtime keys enroll {args.lab} --config meter.toml\n"
        "Whoever reads this folder can be every role: keep it to yourself."
    )
    return 0


def _show(args: argparse.Namespace) -> int:
    if (args.lab is None) == (args.config is None):
        raise UsageError("name a laboratory or --config FILE; see 'meter-runtime keys show --help'")
    if args.config is not None:
        meter_id, keys = _own_identity(args.config)
        if args.json:
            print(identity_document(meter_id, keys).decode(), end="")
        else:
            print(f"{meter_id}  {keys.fingerprint()}")
        return 0
    document = _lab_document(Lab.open(args.lab))
    print(json.dumps(document, indent=2) if args.json else _lab_table(document))
    return 0


def _enroll(args: argparse.Namespace) -> int:
    if (args.config is None) == (args.identity is None):
        raise UsageError("name the meter by --config FILE or --identity FILE")
    if args.config is not None:
        meter_id, keys = _own_identity(args.config)
    else:
        meter_id, keys = read_identity(args.identity)
    if args.meter is not None and args.meter != meter_id:
        raise UsageError(f'this is the identity of "{meter_id}", not of "{args.meter}"')
    folder = Lab.open(args.lab).enroll(meter_id, keys)
    print(
        f"# {meter_id}: {keys.fingerprint()}\n"
        f"# Add this to its configuration. On another machine: copy {folder.path} there first,\n"
        f"# and name the files where they lie then.\n{folder.section}",
        end="",
    )
    return 0


def _terminal(args: argparse.Namespace) -> int:
    lab = Lab.open(args.lab)
    if args.lost:
        done = f"{args.name} is out of the trust files, its folder is kept in"
        path = lab.drop_terminal(args.name)
    else:
        done, path = "made", lab.add_terminal(args.name)
    print(f"{done} {path}; give each meter its trust file anew: {lab.path}/meters/ID/trust.toml")
    return 0


def _own_identity(path: Path) -> tuple[str, PublicKeys]:
    """Of the meter on this machine, derived from its device key."""
    settings = config.load(path)
    key = load_device_key(settings.storage.device_key_file)
    return settings.meter.id, MeterIdentity.from_device_key(key).public


def _lab_document(lab: Lab) -> dict[str, Any]:
    files = {"authority": lab.ca, "broker": lab.folder("broker") / "broker.pem"}
    files |= {role: lab.tls(role).certificate for role in ROLES}
    files |= {meter: lab.meter(meter).tls.certificate for meter in lab.meters()}
    files |= {name: lab.tls(f"terminals/{name}").certificate for name in lab.terminals()}
    signing = {f"{name} issues": lab.issuer_key_file(name) for name in ISSUER_KEYS}
    signing[f"{SCS} dispatches"] = lab.folder(SCS) / "signing.key"
    for name in lab.terminals():
        signing[f"{name} dispatches"] = lab.folder(f"terminals/{name}") / "signing.key"
    return {
        "lab": str(lab.path),
        "utility": lab.utility,
        "broker": lab.broker_url,
        "certificates": {name: _certificate(file) for name, file in files.items()},
        "signing_keys": {
            name: certificates.key_fingerprint(SigningKey.from_file(file).public)
            for name, file in signing.items()
        },
        "meters": {meter: lab.meter_keys(meter).fingerprint() for meter in lab.meters()},
    }


def _certificate(file: Path) -> dict[str, str]:
    facts = certificates.facts(file)
    return {
        "unit": facts.unit,
        "expires": facts.expires.date().isoformat(),
        "fingerprint": facts.fingerprint,
    }


def _lab_table(document: dict[str, Any]) -> str:
    today = datetime.now(UTC).date().isoformat()
    names = [name for group in ("certificates", "signing_keys") for name in document[group]]
    width = max(map(len, names))
    lines = [f"{document['lab']}: {document['utility']}, {document['broker']}", "", "certificates"]
    for name, told in document["certificates"].items():
        word = "EXPIRED" if told["expires"] < today else "until"
        lines.append(
            f"  {name:<{width}}  {told['unit']:<8}  {word} {told['expires']}"
            f"  {told['fingerprint'][:16]}…"
        )
    lines += ["", "signing keys"]
    lines += [f"  {name:<{width}}  {print_}" for name, print_ in document["signing_keys"].items()]
    lines += [
        "",
        "meters",
        *(f"  {name:<{width}}  {it}" for name, it in document["meters"].items()),
    ]
    return "\n".join(lines)


def _port(number: int, option: str) -> int:
    if not 1 <= number <= 65_535:
        raise UsageError(f"{option}: {number} is no port; write 1 to 65535")
    return number
