"""The laboratory's folder: every role's keys and certificates, and which meters are enrolled.

::

    LAB/ lab.toml  trust.toml
         ca/{ca.pem,ca.key}
         broker/{broker.pem,broker.key,mosquitto.conf,acl}
         new-system/{signing.key,tls.pem,tls.key,letters/}
         relay/{tls.pem,tls.key}
         scs/{signing.key,issuer.key,tls.pem,tls.key}      dispatches, and its own commands
         mdms/{tls.pem,tls.key}
         meters/ID/{tls.pem,tls.key,ca.pem,trust.toml,identity.json,aroute.toml}
         terminals/NAME/{signing.key,tls.pem,tls.key,ca.pem}

Folders are 0700 and files 0600. One folder holds what a utility keeps on separate machines, so
whoever reads it is every role at once: it is for a laboratory. A folder of a meter or a terminal
stands alone and goes there; each role's stores lie in its folder, too, and are that role's
business.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.identity import PublicKeys, SigningKey
from meter_runtime.aroute.messages import Topics
from meter_runtime.comm.mqtt import MqttSettings, TlsFiles
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.headend import broker_files, rotation
from meter_runtime.headend.certificates import Authority, Unit, write_new
from meter_runtime.headend.meter_files import (
    TrustedCarrier,
    TrustedIssuer,
    aroute_section,
    identity_document,
    read_identity,
    trust_text,
)
from meter_runtime.secret import Secret
from meter_runtime.storage.media import write_whole
from meter_runtime.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

NEW_SYSTEM = "new-system"
SCS = "scs"
MDMS = "mdms"
RELAY = "relay"
BROKER = "broker"
ROLES = {
    NEW_SYSTEM: Unit.BUSINESS,
    SCS: Unit.CONTROL,
    MDMS: Unit.CONTROL,
    RELAY: Unit.SERVER,
}
"""The roles with a certificate of their own, and on which side each stands."""

ISSUERS = {
    NEW_SYSTEM: ("broute.*", "keys.rotate"),
    SCS: (
        "register.*",
        "history.*",
        "switch.*",
        "limit.*",
        "clock.*",
        "inventory.*",
        "config.*",
        "self_test",
        "broute.status",
        "keys.rotate",
    ),
}
"""Who may command what, as the meters' trust file says it."""
ISSUER_KEYS = {NEW_SYSTEM: "signing.key", SCS: "issuer.key"}

DEFAULT_BROKER_PORT = 8883
DEFAULT_BUSINESS_PORT = 8443
DEFAULT_CONTROL_PORT = 8444
FIRST_TERMINAL = "terminal-1"

_METER_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""It names a folder, a certificate (CN: 64 characters) and a part of a topic."""
_CARRIER = re.compile(r"[0-9a-z][0-9a-z-]{0,15}")
_MAX_CARRIERS = 8
_LOGIN_FILE = "login"
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """Where the relay listens."""

    host: str
    business_port: int
    control_port: int


@dataclass(frozen=True, slots=True)
class MeterFolder:
    """What goes to a meter."""

    meter_id: str
    path: Path

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles(self.path / "ca.pem", self.path / "tls.pem", self.path / "tls.key")

    @property
    def trust(self) -> Path:
        return self.path / "trust.toml"

    @property
    def section(self) -> str:
        """The section ``[aroute]`` of the meter's configuration."""
        return (self.path / "aroute.toml").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Login:
    """How everybody comes to a broker that speaks no TLS; for a broker on this machine only."""

    username: str
    password: Secret


class _Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str
    port: int
    username: str | None = None
    """With it the broker speaks no TLS, and the password is in ``broker/login``."""


class _Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str
    business_port: int
    control_port: int


class _LabFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``lab.toml``."""

    utility: str
    broker: _Broker
    relay: _Relay


class Lab:
    """One laboratory, in its folder."""

    def __init__(self, path: Path, settings: _LabFile) -> None:
        self.path = path
        self._settings = settings

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        utility: str = "kansai",
        broker_host: str = "localhost",
        broker_port: int = DEFAULT_BROKER_PORT,
        relay_host: str | None = None,
        business_port: int = DEFAULT_BUSINESS_PORT,
        control_port: int = DEFAULT_CONTROL_PORT,
        login: Login | None = None,
    ) -> "Lab":
        """Make every key and file, all or nothing; the relay is on the broker's host by default.

        With ``login`` the broker is one without TLS. Raises :class:`UsageError` where there is
        something already: keys are never replaced.
        """
        path = path.absolute()
        Topics(utility, "meter")
        for host in filter(None, (broker_host, relay_host)):
            if not re.fullmatch(r"[0-9A-Za-z.:-]+", host):
                raise UsageError(f'"{host}" is no host name; give a name or an address')
        relay = _Relay(relay_host or broker_host, business_port, control_port)
        username = None if login is None else login.username
        settings = _LabFile(utility, _Broker(broker_host, broker_port, username), relay)
        with _made_whole(path) as fresh:
            _furnish(fresh, path, settings)
            if login is not None:
                password = login.password.reveal().encode()
                write_new(fresh / BROKER / _LOGIN_FILE, password)
            cls(fresh, settings).add_terminal(FIRST_TERMINAL)
        return cls(path, settings)

    @classmethod
    def open(cls, path: Path) -> "Lab":
        """The laboratory in this folder."""
        path = path.absolute()
        file = path / "lab.toml"
        table = read_table(file, "no laboratory here; make one with 'meter-runtime keys init'")
        try:
            return cls(path, msgspec.convert(table, _LabFile))
        except msgspec.ValidationError as wrong:
            raise UsageError(f"{file}: {wrong}") from None

    @property
    def utility(self) -> str:
        return self._settings.utility

    @property
    def broker_url(self) -> str:
        broker = self._settings.broker
        scheme = "mqtts" if broker.username is None else "mqtt"
        return f"{scheme}://{_in_url(broker.host)}:{broker.port}"

    def mqtt(self, role: str, client_id: str) -> MqttSettings:
        """How a role comes to the broker, under this client id."""
        broker = self._settings.broker
        if broker.username is None:
            return MqttSettings(broker.host, broker.port, client_id, tls=self.tls(role))
        password = self._broker_password.read_text(encoding="utf-8")
        return MqttSettings(
            broker.host,
            broker.port,
            client_id,
            username=broker.username,
            password=Secret(password),
        )

    @property
    def relay(self) -> RelayAddress:
        relay = self._settings.relay
        return RelayAddress(relay.host, relay.business_port, relay.control_port)

    @property
    def ca(self) -> Path:
        return self.path / "ca" / "ca.pem"

    @property
    def trust_file(self) -> Path:
        """Whom a meter obeys; each meter's folder has a copy."""
        return self.path / "trust.toml"

    def folder(self, role: str) -> Path:
        """A role's folder; a terminal's role is ``terminals/NAME``."""
        folder = self.path / role
        if role not in (*ROLES, BROKER) and role not in self._terminal_roles():
            known = (*ROLES, BROKER, *self._terminal_roles())
            raise UsageError(f'{self.path}: there is no role "{role}"; {nearest(role, known)}')
        return folder

    def tls(self, role: str) -> TlsFiles:
        """A role's certificate and key; the relay's are a server's."""
        folder = self.folder(role)
        return TlsFiles(self.ca, folder / "tls.pem", folder / "tls.key")

    def signing_key(self, role: str) -> SigningKey:
        """The New System's issuer key, or the key by which the SCS or a terminal dispatches."""
        return SigningKey.from_file(self.folder(role) / "signing.key")

    def issuer_key(self, issuer: str, meter_id: str) -> SigningKey:
        """The key by which ``issuer`` commands this meter: during a rotation, the one it knows."""
        return rotation.key_for(self.issuer_key_file(issuer), meter_id)

    def issuer_key_file(self, issuer: str) -> Path:
        """Where this issuer's key is kept."""
        if issuer not in ISSUER_KEYS:
            raise UsageError(f'there is no issuer "{issuer}"; {nearest(issuer, ISSUER_KEYS)}')
        return self.folder(issuer) / ISSUER_KEYS[issuer]

    def meters(self) -> tuple[str, ...]:
        """The ids of the enrolled meters, sorted."""
        there = (self.path / "meters").iterdir()
        return tuple(sorted(each.name for each in there if not each.name.startswith(".")))

    def terminals(self) -> tuple[str, ...]:
        """The names of the hand-held terminals, sorted."""
        there = (self.path / "terminals").iterdir()
        return tuple(sorted(each.name for each in there if not each.name.startswith(".")))

    def meter(self, meter_id: str) -> MeterFolder:
        """An enrolled meter's folder."""
        if meter_id not in (enrolled := self.meters()):
            raise UsageError(
                f'{self.path}: meter "{meter_id}" is not enrolled; {nearest(meter_id, enrolled)}'
            )
        return MeterFolder(meter_id, self.path / "meters" / meter_id)

    def meter_keys(self, meter_id: str) -> PublicKeys:
        """By which keys commands are sealed to the meter and its results are verified."""
        file = self.meter(meter_id).path / "identity.json"
        return read_identity(file)[1]

    def enroll(self, meter_id: str, keys: PublicKeys) -> MeterFolder:
        """Make the folder of a meter; :class:`UsageError` when there is one."""
        if not _METER_ID.fullmatch(meter_id):
            raise UsageError(
                f'"{meter_id}" cannot be enrolled; an id is 1 to 64 letters, digits and . _ -'
            )
        if meter_id in ROLES or meter_id in self.terminals():
            raise UsageError(f'"{meter_id}" is the name of a role; give the meter another id')
        path = self.path / "meters" / meter_id
        if path.exists():
            raise UsageError(
                f"{meter_id} is enrolled already; to do it anew move {path} away first"
            )
        with _made_whole(path) as fresh:
            authority = Authority.open(self.ca.parent)
            # Not only a client: its local port is a server, known by its name wherever it is.
            authority.issue(fresh, "tls", meter_id, Unit.METER, hosts=(meter_id,))
            write_new(fresh / "ca.pem", self.ca.read_bytes())
            write_new(fresh / "trust.toml", self.trust_file.read_bytes())
            write_new(fresh / "identity.json", identity_document(meter_id, keys))
            write_new(fresh / "aroute.toml", self._aroute_section(path).encode())
        return MeterFolder(meter_id, path)

    def add_terminal(self, name: str) -> Path:
        """Make a hand-held terminal's keys and put it into the trust files; its folder.

        Meters learn of it when they are given their trust file anew.
        """
        if not _CARRIER.fullmatch(name) or name in ROLES:
            raise UsageError(
                f'"{name}" cannot be a terminal; a name is 1 to 16 of a-z, 0-9 and -, and no role'
            )
        if name in self.meters():
            raise UsageError(f'"{name}" is an enrolled meter; give the terminal another name')
        if len(self.terminals()) >= _MAX_CARRIERS - 1:
            raise UsageError(f"a meter knows at most {_MAX_CARRIERS - 1} terminals")
        path = self.path / "terminals" / name
        if path.exists():
            raise UsageError(f"{name} is a terminal already; give the other one another name")
        with _made_whole(path) as fresh:
            SigningKey.generate().to_file(fresh / "signing.key")
            Authority.open(self.ca.parent).issue(fresh, "tls", name, Unit.TERMINAL)
            write_new(fresh / "ca.pem", self.ca.read_bytes())
        self.write_trust()
        return path

    def drop_terminal(self, name: str) -> Path:
        """Take a lost terminal out of the trust files; where its folder is kept, with its log.

        Meters learn of it when they are given their trust file anew.
        """
        if name not in (known := self.terminals()):
            raise UsageError(f'{self.path}: no terminal is called "{name}"; {nearest(name, known)}')
        kept = self.path / "terminals" / f".lost-{name}"
        if kept.exists():
            raise UsageError(f"{kept}: there is one of this name already; move it away")
        try:
            (self.path / "terminals" / name).rename(kept)
        except OSError as failure:
            raise MeterError(f"{kept}: cannot be made: {failure.strerror}") from None
        self.write_trust()
        return kept

    def write_trust(self) -> None:
        """Write the trust files from the keys as they are now."""
        content = self._trust().encode()
        write_whole(self.trust_file, content)
        for meter_id in self.meters():
            write_whole(self.meter(meter_id).trust, content)

    @property
    def _broker_password(self) -> Path:
        return self.folder(BROKER) / _LOGIN_FILE

    def _aroute_section(self, folder: Path) -> str:
        """Of a meter whose files lie in ``folder``."""
        said = {"url": self.broker_url, "trust": str(folder / "trust.toml")}
        username = self._settings.broker.username
        if username is None:
            said |= {
                "ca": str(folder / "ca.pem"),
                "certificate": str(folder / "tls.pem"),
                "key": str(folder / "tls.key"),
            }
        else:
            said |= {"username": username, "password_file": str(self._broker_password)}
        return aroute_section(said)

    def _terminal_roles(self) -> tuple[str, ...]:
        return tuple(f"terminals/{name}" for name in self.terminals())

    def _trust(self) -> str:
        issuers = [
            TrustedIssuer(name, SigningKey.from_file(self.issuer_key_file(name)).public, commands)
            for name, commands in ISSUERS.items()
        ]
        carriers = [TrustedCarrier(SCS, self.signing_key(SCS).public, Way.CONTROL)]
        for name in self.terminals():
            public = self.signing_key(f"terminals/{name}").public
            carriers.append(TrustedCarrier(name, public, Way.TERMINAL))
        return trust_text(issuers, carriers)


def bind_host(host: str) -> str | None:
    """What a server of the laboratory binds: the loopback for a local one, else everything."""
    return "127.0.0.1" if host in _LOCAL else None


def _furnish(fresh: Path, final: Path, settings: _LabFile) -> None:
    """Everything but the terminals, in ``fresh``, which will be ``final``."""
    broker, relay = settings.broker, settings.relay
    username = "" if broker.username is None else f'username = "{broker.username}"\n'
    for name in ("ca", BROKER, *ROLES, "new-system/letters", "meters", "terminals"):
        (fresh / name).mkdir(mode=0o700)
    authority = Authority.create(fresh / "ca", f"meter-runtime laboratory {settings.utility}")
    authority.issue(fresh / BROKER, "broker", BROKER, Unit.SERVER, hosts=_with_local(broker.host))
    for role, unit in ROLES.items():
        hosts = _with_local(relay.host) if role == RELAY else ()
        authority.issue(fresh / role, "tls", role, unit, hosts=hosts)
    for role, stem in (*ISSUER_KEYS.items(), (SCS, "signing.key")):
        SigningKey.generate().to_file(fresh / role / stem)
    configuration = broker_files.mosquitto_conf(
        final / BROKER, final / "ca" / "ca.pem", broker.port, bind_host(broker.host)
    )
    write_new(fresh / BROKER / "mosquitto.conf", configuration.encode())
    write_new(fresh / BROKER / "acl", broker_files.access_list(settings.utility).encode())
    write_new(
        fresh / "lab.toml",
        (
            f'utility = "{settings.utility}"\n\n'
            f'[broker]\nhost = "{broker.host}"\nport = {broker.port}\n{username}\n'
            f'[relay]\nhost = "{relay.host}"\n'
            f"business_port = {relay.business_port}\ncontrol_port = {relay.control_port}\n"
        ).encode(),
    )


def _with_local(host: str) -> "Sequence[str]":
    return tuple(dict.fromkeys((*_LOCAL, host)))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def _made_whole(path: Path) -> Iterator[Path]:
    """A folder that gets its name only when all of it is there."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path}: there is something already; move it away or name another folder")
    fresh = path.with_name(f".{path.name}.new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        yield fresh
        fresh.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as failure:
        raise MeterError(f"{path}: cannot be made: {failure.strerror}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
