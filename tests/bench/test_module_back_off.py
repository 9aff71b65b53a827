"""A module that admits homes pauses for one that fails again and again, and for nobody else."""

from module_room import HEMS_IP, METER_IP, OTHER_MAC, Host, Room, send_line

from meter_runtime.comm.auth.back_off import FAILURES, FIRST_S
from meter_runtime.comm.skstack.addresses import link_local

WRONG = "WRONGWRONG12"
RIGHT = "ABCDEFGHIJ12"
PATIENCE_S = 5.1
"""After so much silence a HEMS gives a join up."""


def fail(hems: Host, times: int = FAILURES) -> None:
    """So many joins with a wrong password, each refused."""
    hems.ask(f"SKSETPWD C {WRONG}")
    for _ in range(times):
        assert f"EVENT 24 {METER_IP}" in hems.ask(f"SKJOIN {METER_IP}")


def unheard(room: Room, hems: Host) -> bool:
    """Whether a join meets silence."""
    told = hems.ask(f"SKJOIN {METER_IP}")
    assert "EVENT 25" not in told
    silent = "EVENT 24" not in told
    room.clock.advance(PATIENCE_S)
    return silent


def test_after_five_refusals_a_home_meets_silence_for_a_minute() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    fail(hems)
    assert meter.read().count(f"EVENT 24 {HEMS_IP}") == FAILURES
    assert unheard(room, hems)
    assert "EVENT 24" not in meter.read()
    room.clock.advance(FIRST_S)
    fail(hems, 1)
    room.clock.advance(FIRST_S)
    assert unheard(room, hems)  # twice as long now


def test_the_right_password_is_admitted_when_the_pause_is_over() -> None:
    room = Room()
    room.meter()
    hems = room.hems()
    fail(hems)
    hems.ask(f"SKSETPWD C {RIGHT}")
    assert unheard(room, hems)
    room.clock.advance(FIRST_S)
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")
    hems.ask("SKTERM")
    fail(hems, FAILURES - 1)
    hems.ask(f"SKSETPWD C {RIGHT}")
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")


def test_a_rewritten_password_ends_the_pause() -> None:
    room = Room()
    meter, hems = room.meter(), room.hems()
    fail(hems)
    meter.ask("SKSETPWD C NEWPASSWORD1")
    hems.ask("SKSETPWD C NEWPASSWORD1")
    assert "EVENT 25" in hems.ask(f"SKJOIN {METER_IP}")


def test_another_home_is_admitted_during_the_pause() -> None:
    room = Room()
    meter = room.meter()
    careless, other = room.hems(), room.hems(mac=OTHER_MAC)
    fail(careless)
    meter.read()
    assert "EVENT 25" in other.ask(f"SKJOIN {METER_IP}")
    assert f"EVENT 25 {link_local(OTHER_MAC)}" in meter.read()


def test_the_home_that_is_joined_is_not_disturbed_by_refusals() -> None:
    room = Room()
    meter, hems = room.joined()
    other = room.hems(mac=OTHER_MAC, password=WRONG)
    for _ in range(3):
        other.ask(f"SKJOIN {METER_IP}")
        room.clock.advance(PATIENCE_S)
    assert "EVENT 24" not in meter.read()
    hems.write(send_line("SE", METER_IP, b"\x01"))
    assert f"ERXUDP {HEMS_IP}" in meter.read()
