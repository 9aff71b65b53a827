"""What a module remembers between commands: registers, credentials, ports, neighbours, keys.

SKRESET clears all of it but the option bytes and what SKSAVE kept.
"""

from collections.abc import Iterator

from meter_runtime.bench.module.join import Credentials, key_name
from meter_runtime.bench.module.profiles import Profile
from meter_runtime.bench.module.registers import Reg, Registers
from meter_runtime.comm.auth.pana_events import psk_of
from meter_runtime.comm.auth.pana_message import PANA_PORT
from meter_runtime.comm.contracts import ECHONET_LITE_PORT
from meter_runtime.comm.skstack.addresses import link_local, parse_address
from meter_runtime.secret import Secret

UDP_HANDLES = 6
MAX_NEIGHBORS = 32
"""Above what any home has; the oldest entry gives way."""

HEX_DATA_BIT = 0x01
"""The bit of the option byte WOPT that has ERXUDP payloads in hex."""


class NeighborCache:
    """IPv6 address to MAC address, bounded."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def add(self, address: str, mac: bytes) -> None:
        self._entries.pop(address, None)
        while len(self._entries) >= MAX_NEIGHBORS:
            del self._entries[next(iter(self._entries))]
        self._entries[address] = mac

    def __contains__(self, address: str) -> bool:
        return address in self._entries

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._entries.items())

    def mac_of(self, address: str) -> bytes | None:
        """The MAC behind an address: from the cache, or from the link-local form itself."""
        if address in self._entries:
            return self._entries[address]
        raw = parse_address(address)
        if raw[:8] != b"\xfe\x80" + bytes(6):
            return None
        return bytes((raw[8] ^ 0x02,)) + raw[9:]


class ManualKeys:
    """Keys the host set itself: SKSETKEY, SKRMKEY, SKREGDEV, SKRMDEV, SKSECENABLE."""

    def __init__(self) -> None:
        self._keys: dict[int, bytes] = {}
        self._active: int | None = None
        self._secured: dict[str, bool] = {}

    def set_key(self, index: int, key: bytes) -> None:
        self._keys[index] = key
        self._active = index

    def remove_key(self, index: int) -> bool:
        """False where there was none."""
        if self._active == index:
            self._active = None
        return self._keys.pop(index, None) is not None

    def register(self, address: str, *, secured: bool = True) -> bool:
        """Know a device, with or without encryption; False when there are too many."""
        if address not in self._secured and len(self._secured) >= MAX_NEIGHBORS:
            return False
        self._secured[address] = secured
        return True

    def unregister(self, address: str) -> bool:
        """False where it was not registered."""
        return self._secured.pop(address, None) is not None

    def key_for(self, address: str) -> bytes | None:
        """The name of the key in use with a device."""
        if self._active is None or not self._secured.get(address, False):
            return None
        return key_name(self._keys[self._active])


class ModuleState:
    """The memory of one module of this product and MAC address."""

    def __init__(self, profile: Profile, mac: bytes) -> None:
        self.profile = profile
        self.mac = mac
        self.address = link_local(mac)
        self.registers = Registers(profile.dialect, echo=profile.echo)
        self.option_byte = HEX_DATA_BIT if profile.hex_data else 0
        self.uart_byte = 0
        self.reset()

    def reset(self) -> None:
        """SKRESET."""
        self.registers.reset()
        self.route_b_id: str | None = None
        self.psk: bytes | None = None
        self.udp_ports = [ECHONET_LITE_PORT, PANA_PORT, *[0] * (UDP_HANDLES - 2)]
        self.neighbors = NeighborCache()
        self.manual_keys = ManualKeys()

    @property
    def hex_data(self) -> bool:
        """ERXUDP payloads are written in hex."""
        return bool(self.option_byte & HEX_DATA_BIT)

    @property
    def credentials(self) -> Credentials | None:
        """What a join is proved with, once both halves are set."""
        if self.route_b_id is None or self.psk is None:
            return None
        return Credentials(self.route_b_id, self.psk)

    def set_password(self, password: str) -> None:
        self.psk = psk_of(Secret(password))

    def set_route_b_id(self, route_b_id: str) -> None:
        """Set the authentication ID; its last eight characters become the pairing ID."""
        self.route_b_id = route_b_id
        self.registers.pairing_id = route_b_id[-8:]

    def udp_port(self, handle: int) -> int:
        """The port behind a handle, 0 where it is unused."""
        return self.udp_ports[handle - 1]

    @property
    def lifetime_s(self) -> int:
        return self.registers[Reg.LIFETIME]
