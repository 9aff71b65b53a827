"""A laboratory's New System with a relay in memory and meters that have nothing but keys.

The meter opens, verifies and answers by the real envelope and result; what a meter does with a
command is the gate's and the handlers' business, and their tests'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from meter_runtime.aroute import commands, results
from meter_runtime.aroute.commands import Code, RewritePassword, SetCredentials
from meter_runtime.aroute.envelope import Command, unseal, verify
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.results import Diagnosis, Result
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError
from meter_runtime.headend.authority import Role
from meter_runtime.headend.lab import NEW_SYSTEM, Lab
from meter_runtime.headend.new_system import NewSystem
from meter_runtime.headend.register_contracts import ContractRecord, SupplyPoint
from meter_runtime.headend.register_requests import Request

METER = "M-0001"
SECOND = "M-0002"
ACCEPTED = date(2026, 11, 1)
NOW = 1_793_000_000.0
HARA, MORI, ITO = "Hara", "Mori Aoi", "Ito"
"""The registrar, the one responsible for the B-route, the operator."""


class RelayInMemory:
    """What the Relay Server keeps, without the server."""

    def __init__(self) -> None:
        self.envelopes: dict[str, bytes] = {}
        self.results: dict[str, bytes] = {}
        self.away = False
        self.puts: list[str] = []

    async def put(self, request_id: str, envelope: bytes, *, meter_id: str, expiry: int) -> None:
        if self.away:
            raise MeterError("https://relay: cannot be reached")
        assert self.envelopes.setdefault(request_id, envelope) == envelope
        assert expiry > NOW
        assert meter_id
        self.puts.append(request_id)

    async def result(self, request_id: str) -> bytes | None:
        if self.away:
            raise MeterError("https://relay: cannot be reached")
        return self.results.get(request_id)


@dataclass
class Keys:
    """A meter as far as its keys go, and the password that it was given last."""

    meter_id: str
    issuer_public: bytes
    identity: MeterIdentity = field(
        default_factory=lambda: MeterIdentity.from_device_key(bytes(range(32)))
    )
    link: LinkCredentials | None = None
    version: int = 0

    def read(self, envelope: bytes) -> Command:
        return verify(unseal(envelope, self.identity), self.issuer_public)

    def obey(self, envelope: bytes, **changes: Any) -> bytes:
        """The signed OK, with the proof; ``changes`` are other fields of the result."""
        command = self.read(envelope)
        typed = commands.parse_arguments(commands.COMMANDS[command.name], command.arguments)
        proof = None
        if isinstance(typed, SetCredentials):
            self.link = LinkCredentials(typed.id, typed.password)
        if isinstance(typed, RewritePassword):
            assert self.link is not None
            self.link = LinkCredentials(self.link.route_b_id, typed.password)
        if isinstance(typed, SetCredentials | RewritePassword):
            assert self.link is not None
            proof = results.proof_of(typed.proof_key, self.link)
            self.version += 1
        return self.answer(command, proof=proof, **changes)

    def answer(
        self,
        command: Command,
        *,
        code: Code = Code.OK,
        proof: bytes | None = None,
        details: Mapping[str, Any] | None = None,
        diagnosis: int = 3,
        command_id: bytes | None = b"",
        meter_id: str | None = None,
    ) -> bytes:
        result = Result(
            meter_id or self.meter_id,
            command.command_id if command_id == b"" else command_id,
            command.counter,
            code,
            self.version,
            proof,
            NOW,
            "synced",
            Diagnosis(diagnosis, 0),
            details or {},
            bytes(results.ANSWER_TO_SIZE),
        )
        return results.sign(result, self.identity)


class Room:
    """The New System with three people, a supply point, a contract and a meter."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.lab = Lab.create(folder / "lab")
        issuer = self.lab.signing_key(NEW_SYSTEM).public
        self.meter = Keys(METER, issuer)
        self.lab.enroll(METER, self.meter.identity.public)
        self.relay = RelayInMemory()
        self.system = self.open()
        people = {HARA: Role.REGISTRAR, MORI: Role.BROUTE, ITO: Role.OPERATOR}
        self.system.staff.add(NOW, "Abe", frozenset({Role.ADMINISTRATOR}), None)
        for name, role in people.items():
            self.system.staff.add(NOW, name, frozenset({role}), "Abe")
        register = self.system.register
        register.add_supply_point(NOW, HARA, SupplyPoint("SP-1", "1-2-3 Nakanoshima, Osaka"))
        register.add_contract(
            NOW,
            HARA,
            ContractRecord("C-1001", "Sato Hana", "SP-1", capacity_a=40, accepted_on=ACCEPTED),
        )
        register.add_meter(NOW, HARA, METER, "SP-1")

    @property
    def folder(self) -> Path:
        return self.lab.folder(NEW_SYSTEM)

    def open(self) -> NewSystem:
        return NewSystem.open(self.lab, relay=self.relay, now=lambda: self.now)

    def restart(self) -> None:
        """The program ends and another one begins."""
        self.system.close()
        self.system = self.open()

    def close(self) -> None:
        self.system.close()

    async def issue(self, name: str = "broute.set_credentials", by: str = MORI) -> Request:
        return await self.system.issuing.issue(name, METER, by=by)

    async def poll(self, request: Request) -> Request:
        """The request after one more look at the relay."""
        await self.system.issuing.poll()
        return self.system.requests.find(request.id)

    async def settled(self, name: str = "broute.set_credentials") -> Request:
        """A command that the meter has obeyed and proved."""
        request = await self.issue(name)
        self.relay.results[request.id] = self.meter.obey(request.envelope)
        return await self.poll(request)
