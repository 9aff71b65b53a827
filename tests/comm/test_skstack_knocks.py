"""How many that knock are told of: addresses cost nothing."""

from meter_runtime.comm.contracts import PeerJoining
from meter_runtime.comm.skstack.replies import RxUdp
from meter_runtime.comm.skstack.session import ATTEMPT_S, MAX_ATTEMPTS, PANA_PORT, Session

OWN = "FE80:0000:0000:0000:C2F9:4500:4058:B5FB"


def knock(number: int) -> RxUdp:
    return RxUdp(
        source=f"FE80::{number:X}",
        destination=OWN,
        source_port=PANA_PORT,
        destination_port=PANA_PORT,
        source_mac=number.to_bytes(8, "big"),
        secured=False,
        data=b"\x00" * 16,
    )


def test_of_a_flood_of_addresses_the_first_few_are_told() -> None:
    session = Session(86_400)
    told = [event for n in range(1000) for event in session.receive(knock(n), n / 500)]
    assert told == [PeerJoining(f"FE80::{n:X}") for n in range(MAX_ATTEMPTS)]
    assert session.counts["knocks_untold"] == 1000 - MAX_ATTEMPTS


def test_another_is_told_once_one_of_them_has_fallen_silent() -> None:
    session = Session(86_400)
    for number in range(MAX_ATTEMPTS):
        session.receive(knock(number), 0.0)
    assert session.receive(knock(100), ATTEMPT_S) == []
    assert session.receive(knock(101), ATTEMPT_S + 0.1) == [PeerJoining("FE80::65")]
    assert session.receive(knock(102), ATTEMPT_S + 0.2) == [PeerJoining("FE80::66")]


def test_one_that_goes_on_knocking_is_told_once() -> None:
    session = Session(86_400)
    told = [event for n in range(200) for event in session.receive(knock(1), float(n))]
    assert told == [PeerJoining("FE80::1")]
