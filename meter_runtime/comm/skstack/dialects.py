"""What differs between SKSTACK-IP firmware families, as data.

Two stacks are in the field. The *single-stack* firmware ("SE": BP35A1 and its kin) knows the
B-route only; the *dual-stack* firmware ("DSE": BP35C2 and its kin) also speaks to a home
area network, and tells the two apart by a *side* argument, 0 for the B-route.

Source: the vendors' command manuals as quoted by public client code, and logs of real modules.
"""

from dataclasses import dataclass

B_ROUTE_SIDE = 0


@dataclass(frozen=True, slots=True)
class Dialect:
    """The shape of commands and events of one firmware family."""

    name: str
    has_side: bool
    """SKSCAN, SKSENDTO and SKPING take a side; EVENT, EPONG, ERXUDP and EPANDESC carry one."""
    prints_rssi: bool
    """ERXUDP carries the RSSI field while register SA2 is 1."""
    info_tail: str
    """The last field of EINFO: a sentinel on SE, the active side on DSE."""
    default_lifetime_s: int
    """Register S16 after reset."""

    @property
    def scan_arguments(self) -> int:
        """SKSCAN: mode, mask, duration, and on DSE the side."""
        return 4 if self.has_side else 3

    @property
    def sendto_arguments(self) -> int:
        """SKSENDTO: handle, address, port, security, on DSE the side, and the length."""
        return 6 if self.has_side else 5


SE = Dialect(
    name="SE",
    has_side=False,
    prints_rssi=False,
    info_tail="FFFE",
    default_lifetime_s=0x384,
)

DSE = Dialect(
    name="DSE",
    has_side=True,
    prints_rssi=True,
    info_tail="0",
    default_lifetime_s=0x15180,
)

DIALECTS = {dialect.name: dialect for dialect in (SE, DSE)}
