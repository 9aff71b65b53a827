"""The control side's own commands: register and history reads, the supply, the clock.

Sealed and signed with the control side's issuer key and left in the store of the Supervisory
Control System, whose running process sends them like any other. What a person wrote for a command
is checked against its table before anything is signed.
"""

import json
import secrets
import time
from collections.abc import Iterable
from typing import Any

from meter_runtime.aroute import results
from meter_runtime.aroute.commands import COMMANDS, parse_arguments, plain_arguments
from meter_runtime.aroute.envelope import COMMAND_ID_SIZE, Command, seal
from meter_runtime.aroute.trust import load_trust
from meter_runtime.errors import UsageError, nearest
from meter_runtime.headend.lab import SCS, Lab
from meter_runtime.headend.scs_store import ScsStore, Task

VALID_S = 3600
MAX_VALID_S = 30 * 86_400
_BACKDATED_S = 300
"""A meter's clock may be this far behind."""
_LOOK_S = 0.2
_MAX_REASON = 128


def read_arguments(pairs: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as a person writes it; a value is JSON where it is JSON, else text."""
    given: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise UsageError("--arg is KEY=VALUE, as in --arg limit_a=30")
        if key in given:
            raise UsageError(f'--arg: "{key}" is given twice')
        try:
            given[key] = json.loads(text)
        except json.JSONDecodeError:
            given[key] = text
    return given


def issue(
    lab: Lab,
    store: ScsStore,
    name: str,
    meter_id: str,
    given: dict[str, Any],
    *,
    by: str,
    reason: str = "",
    valid_s: float = VALID_S,
) -> str:
    """Seal the command and leave it for the sending process; its request id.

    ``given`` holds plain values; ``valid_s`` seconds from now the meter no longer obeys.
    """
    if name not in COMMANDS:
        raise UsageError(f'no command is called "{name}"; {nearest(name, COMMANDS)}')
    if not load_trust(lab.trust_file).permits(SCS, name):
        raise UsageError(
            f"{name}: the meters take it from the business side alone; use 'headend issue {name}'"
        )
    if not 0 < valid_s <= MAX_VALID_S:
        raise UsageError("a command is valid for 1 second to 30 days")
    for what, text, most in (("--by", by, 64), ("--reason", reason, _MAX_REASON)):
        if len(text) > most or not text.isprintable():
            raise UsageError(f"{what}: at most {most} printable characters")
    arguments = plain_arguments(parse_arguments(COMMANDS[name], given))
    keys = lab.meter_keys(meter_id)
    issuer_key = lab.issuer_key(SCS, meter_id)
    now = time.time()
    command_id = secrets.token_bytes(COMMAND_ID_SIZE)

    def sealed(counter: int) -> bytes:
        command = Command(
            name=name,
            meter_id=meter_id,
            command_id=command_id,
            issuer=SCS,
            counter=counter,
            not_before=int(now) - _BACKDATED_S,
            expiry=int(now + valid_s) + 1,
            arguments=arguments,
            reason=reason,
        )
        return seal(command, issuer_key, keys.sealing)

    return store.issue(meter_id, sealed, operator=by, note=reason, now=now)


def wait_for_end(store: ScsStore, request_id: str, wait_s: float) -> Task:
    """The command as it stands when it has ended, or after ``wait_s`` seconds."""
    until = time.monotonic() + wait_s
    while not (task := store.task(request_id)).final and time.monotonic() < until:
        time.sleep(_LOOK_S)
    return task


def document(lab: Lab, task: Task) -> dict[str, Any]:
    """A command and its result, as JSON has it; bytes are hex."""
    told: dict[str, Any] = {
        "request": task.request_id,
        "meter_id": task.meter_id,
        "command": task.command,
        "by": task.operator,
        "sent": task.sent,
        "ended": task.final,
        "result": None,
    }
    if task.result is not None:
        result = results.read(task.result, lab.meter_keys(task.meter_id).signing)
        told["result"] = {
            "code": result.code.value,
            "applied_at": result.applied_at,
            "clock_trust": result.clock_trust,
            "credential_version": result.credential_version,
            "details": _with_hex(dict(result.details)),
        }
    return told


def _with_hex(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _with_hex(each) for key, each in value.items()}
        case list() | tuple():
            return [_with_hex(each) for each in value]
        case _:
            return value
