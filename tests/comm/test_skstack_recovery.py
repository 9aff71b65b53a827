"""What the driver does when the module, the wire or the port fails."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_module import CREDENTIALS, HOME, OWN, Line, ScriptedModule

from meter_runtime.comm.contracts import (
    AuthOk,
    LinkStarted,
    LinkStartFailed,
    PeerLeft,
    TxRestricted,
    UnitFault,
)
from meter_runtime.comm.skstack.dialects import DSE, SE, Dialect
from meter_runtime.comm.skstack.driver import MeterDriver, Phase
from meter_runtime.comm.skstack.outbox import SendDone
from meter_runtime.comm.skstack.session import Received

EVERY_COMMAND = (
    "SKINFO",
    "SKRESET",
    "SKSREG",
    "SKVER",
    "SKAPPVER",
    "SKSETPWD",
    "SKSETRBID",
    "SKSCAN",
    "SKSTART",
)


def line(module: ScriptedModule) -> Line:
    return Line(MeterDriver(None, random.Random(1)), module)


def phase(wire: Line) -> Phase:
    return wire.driver.phase


def serving(dialect: Dialect = SE) -> Line:
    wire = line(ScriptedModule(dialect))
    wire.start()
    wire.hear(wire.module.event(0x25))
    wire.told()
    return wire


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_a_command_without_an_answer_is_repeated_once_and_then_a_failure(command: str) -> None:
    wire = line(ScriptedModule(SE, deaf_to={command}))
    wire.start()
    assert wire.told() == []
    wire.wait(80.0)
    failure = wire.told()[0]
    assert isinstance(failure, LinkStartFailed)
    assert failure.reason.startswith(f"the module does not answer {command}; check its power")
    assert wire.driver.counters["retries"] >= 1


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_a_refused_command_is_repeated_once_and_then_a_failure(command: str) -> None:
    wire = line(ScriptedModule(SE, refuses={command: 6}))
    wire.start()
    (failure,) = wire.told()
    assert isinstance(failure, LinkStartFailed)
    assert failure.reason == f"the module refused {command} (ER06: an argument it does not take)"
    assert sum(said.split()[0] == command for said in wire.module.heard) == 2


def test_a_command_refused_once_is_forgiven() -> None:
    wire = line(ScriptedModule(SE, refuses={"SKSTART": 9}, refuse_times=1))
    wire.start()
    assert wire.driver.phase is Phase.SERVING


def test_failures_are_tried_again_after_1_to_60_seconds() -> None:
    wire = line(ScriptedModule(SE, refuses={"SKINFO": 9}))
    wire.start()
    wire.wait(400.0)
    pauses = [event.retry_in_s for event in wire.told() if isinstance(event, LinkStartFailed)]
    assert pauses[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    wire.module.refuses.clear()
    wire.wait(60.0)
    assert [type(event) for event in wire.told()] == [LinkStarted]
    wire.driver.port_lost("unplugged", wire.now)
    wire.driver.port_opened(wire.now)
    wire.wait(1.0)
    assert [type(event) for event in wire.told()] == [UnitFault, LinkStarted]


def test_a_module_left_waiting_for_the_rest_of_a_datagram_is_freed() -> None:
    module = ScriptedModule(SE)
    module.receive(f"SKSENDTO 1 {HOME} 0E1A 1 04D0 half".encode())
    wire = line(module)
    wire.start()
    assert phase(wire) is Phase.STARTING
    wire.wait(6.0)
    assert phase(wire) is Phase.SERVING


def test_a_serving_module_is_looked_at_every_minute_of_silence() -> None:
    wire = serving()
    wire.module.heard.clear()
    wire.wait(59.0)
    assert wire.module.heard == []
    wire.hear(wire.module.datagram(b"\x01"))
    wire.wait(59.0)
    assert wire.module.heard == []
    wire.wait(122.0)
    assert wire.module.heard == ["SKSREG S15"] * 3


@pytest.mark.parametrize("banner", [False, True])
def test_a_module_that_restarts_by_itself_is_noticed_and_started_again(banner: bool) -> None:
    wire = serving()
    wire.hear(wire.module.spontaneous_restart(banner=banner))
    wire.wait(2.0 if banner else 62.0)
    fault, left, started = wire.told()
    assert fault == UnitFault("the module restarted by itself and answers no join")
    assert left == PeerLeft(HOME)
    assert isinstance(started, LinkStarted)


def test_a_refused_send_makes_the_driver_look_at_once() -> None:
    wire = serving()
    wire.module.spontaneous_restart(banner=False)
    wire.module.refuses["SKSENDTO"] = 10
    number = wire.send(b"\x01", HOME)
    wire.wait(1.5)
    done, fault, *_ = wire.told()
    assert done == SendDone(number, ok=False)
    assert isinstance(fault, UnitFault)
    assert wire.driver.phase is Phase.SERVING


def test_a_module_that_falls_silent_is_a_fault_and_comes_back() -> None:
    wire = serving()
    wire.module.silent = True
    wire.wait(71.0)
    fault, left, *_ = wire.told()
    assert fault == UnitFault(
        "the module does not answer SKSREG; check its power, its wiring and the baud rate"
    )
    assert left == PeerLeft(HOME)
    wire.wait(60.0)
    assert all(isinstance(event, LinkStartFailed) for event in wire.told())
    wire.module.silent = False
    wire.wait(60.0)
    assert isinstance(wire.told()[-1], LinkStarted)


def test_a_send_that_is_never_reported_done_fails_within_its_bound() -> None:
    wire = serving()
    wire.module.send_outcomes.append(())
    number = wire.send(b"\x01", HOME)
    wire.wait(9.9)
    assert wire.told() == []
    wire.wait(0.2)
    assert wire.told() == [SendDone(number, ok=False)]
    assert wire.driver.phase is Phase.SERVING


def test_a_send_that_is_not_even_accepted_fails_and_the_module_is_looked_at() -> None:
    wire = serving()
    wire.module.deaf_to.add("SKSENDTO")
    number = wire.send(b"\x01", HOME)
    wire.module.heard.clear()
    wire.wait(10.1)
    assert wire.told() == [SendDone(number, ok=False)]
    assert wire.module.heard == ["SKSREG S15"]


def test_datagrams_do_not_wait_for_ever() -> None:
    wire = serving()
    wire.driver.send(b"\x01", HOME, wire.now)
    wire.driver.take_output()
    waiting = wire.driver.send(b"\x02", HOME, wire.now)
    for _ in range(40):
        wire.hear(wire.module.datagram(b"\x00", port=716, secured=False))
        wire.wait(2.0)
    assert SendDone(waiting, ok=False) in wire.told()
    assert wire.driver.counters["tx_expired"] == 1


def test_a_late_answer_to_a_repeated_command_does_not_put_the_talk_out_of_step() -> None:
    module = ScriptedModule(SE, deaf_to={"SKINFO"})
    wire = line(module)
    wire.start()
    wire.wait(5.0)
    module.deaf_to.clear()
    wire.hear(b"OK\r\n")
    assert phase(wire) is Phase.STARTING
    wire.hear(module.receive(b"SKINFO\r\n"))
    assert phase(wire) is Phase.SERVING
    assert wire.driver.identity is not None
    assert wire.driver.identity.hex_data is True  # the answer to ROPT was not taken for another's


@pytest.mark.parametrize("register", ["S2", "S3"])
def test_a_module_that_does_not_take_its_network_is_not_started(register: str) -> None:
    wire = line(ScriptedModule(SE, stuck={register}, loud=(0x21,)))
    wire.start()
    (failure,) = wire.told()
    assert isinstance(failure, LinkStartFailed)
    assert "did not take channel" in failure.reason
    assert "SKSTART" not in wire.module.heard


def test_a_line_cut_off_by_unplugging_does_not_spoil_the_next_start() -> None:
    wire = serving()
    wire.hear(wire.module.datagram(b"\x01" * 50)[:90])
    wire.driver.port_lost("gone", wire.now)
    wire.wait(1.0)
    wire.open()
    assert wire.driver.phase is Phase.SERVING
    assert wire.driver.counters["retries"] == 0


def test_nothing_is_left_to_write_after_the_port_is_lost() -> None:
    driver = MeterDriver(None, random.Random(1))
    driver.start(CREDENTIALS, 0.0)
    driver.port_opened(0.0)
    driver.stop(0.0)
    driver.port_lost("gone", 0.0)
    assert driver.take_output() == b""


def test_a_damaged_length_does_not_swallow_the_lines_behind_it() -> None:
    wire = serving()
    good = wire.module.datagram(b"\x01")
    wire.hear(good.replace(b" 0001 01", b" 04D0 01") + good)
    assert [type(event) for event in wire.told()] == [Received]


def test_a_limit_that_holds_across_a_restart_is_told_again() -> None:
    wire = serving()
    wire.hear(wire.module.event(0x32, OWN))
    wire.told()
    wire.on_write = lambda data: wire.module.registers.update(SFB="1") if b"SFB" in data else None
    wire.driver.port_lost("gone", wire.now)
    wire.driver.port_opened(wire.now)
    wire.wait(1.0)
    assert [type(event) for event in wire.told()] == [
        UnitFault,
        PeerLeft,
        LinkStarted,
        TxRestricted,
    ]


def test_a_flood_of_beacons_costs_no_memory() -> None:
    wire = line(ScriptedModule(SE, neighbours=tuple(range(0x1000, 0x1100))))
    kept = []
    take = wire.driver.receive

    def receive(data: bytes, now: float) -> None:
        take(data, now)
        kept.append(len(wire.driver._dialogue._answer.replies))

    wire.driver.receive = receive  # type: ignore[method-assign]
    wire.cut = 16
    wire.start()
    assert wire.driver.phase is Phase.SERVING
    assert max(kept) == 64


def test_an_unplugged_module_is_a_fault_and_everything_waiting_fails() -> None:
    wire = serving()
    wire.module.send_outcomes.append((2,))
    numbers = [wire.send(b"\x01", HOME), wire.send(b"\x02", HOME)]
    wire.driver.port_lost("serial:/dev/ttyUSB0: the port is gone", wire.now)
    wire.settle()
    assert wire.told() == [
        UnitFault("serial:/dev/ttyUSB0: the port is gone"),
        *(SendDone(number, ok=False) for number in numbers),
        PeerLeft(HOME),
    ]
    assert phase(wire) is Phase.RESTING
    assert not wire.driver.port_wanted
    wire.wait(1.0)
    assert phase(wire) is Phase.OFFLINE
    wire.driver.port_lost("no such port", wire.now)
    wire.settle()
    assert wire.told() == [LinkStartFailed("no such port", 2.0)]
    wire.wait(2.0)
    wire.open()
    assert [type(event) for event in wire.told()] == [LinkStarted]


def test_a_port_lost_in_the_middle_of_a_start_or_a_stop_is_survived() -> None:
    wire = line(ScriptedModule(SE, deaf_to={"SKSCAN"}))
    wire.start()
    wire.driver.port_lost("gone", wire.now)
    wire.settle()
    assert wire.told() == [LinkStartFailed("gone", 1.0)]

    wire = serving()
    wire.module.silent = True
    wire.driver.stop(wire.now)
    wire.driver.port_lost("gone", wire.now)
    wire.settle()
    assert wire.driver.phase is Phase.STOPPED
    assert wire.told() == [PeerLeft(HOME)]


def test_a_stopped_driver_stays_stopped_whatever_happens() -> None:
    driver = MeterDriver(None, random.Random(1))
    driver.stop(0.0)
    driver.set_credentials(CREDENTIALS, 0.0)
    driver.port_opened(0.0)
    driver.receive(b"EVENT 25 FE80:0000:0000:0000:021D:1290:1234:5678\r\nOK\r\n", 0.0)
    driver.tick(1_000.0)
    driver.port_lost("gone", 0.0)
    assert driver.take_events() == []
    assert driver.take_output() == b""
    assert driver.phase is Phase.STOPPED


def test_noise_before_every_answer_is_counted_and_changes_nothing() -> None:
    wire = line(ScriptedModule(DSE, before_ok=b"\xff\x00junk\r\n"))
    wire.start()
    assert wire.driver.phase is Phase.SERVING
    assert wire.driver.counters["noise"] > 10


def test_an_endless_line_is_dropped_at_its_end() -> None:
    wire = serving()
    for _ in range(100):
        wire.hear(b"x" * 10_000)
    wire.hear(b"\r\n" + wire.module.datagram(b"\x01"))
    assert wire.driver.counters["overlong"] == 1
    assert [type(event) for event in wire.told()] == [Received]


WORDS = st.sampled_from(
    [
        b"OK\r\n",
        b"FAIL ER10\r\n",
        b"EVENT 21 ",
        b"EVENT 25 ",
        b"EVENT 26 " + HOME.encode() + b"\r\n",
        b"EVENT 29 " + HOME.encode() + b" 0\r\n",
        b"EVENT 32 " + OWN.encode() + b" 0\r\n",
        b"EVENT 33 " + OWN.encode() + b"\r\n",
        b"EPANDESC\r\n  Channel:",
        b"EEDSCAN\r\n",
        b"ESREG 1\r\n",
        b"ESREG zz\r\n",
        b"ERXUDP " + HOME.encode() + b" " + OWN.encode() + b" 0E1A 0E1A ",
        b"001D129012345678 1 0 0004 ",
        b"EVER 9\r\n",
        HOME.encode(),
        b"\r",
        b"\n",
        b" ",
    ]
)
GARBAGE = st.lists(st.one_of(WORDS, st.binary(max_size=40)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from((SE, DSE)),
    st.lists(st.tuples(GARBAGE, st.floats(0.0, 30.0)), max_size=12),
    st.booleans(),
)
def test_garbage_between_the_lines_never_raises_and_the_link_always_comes_back(
    dialect: Dialect, rounds: list[tuple[list[bytes], float]], hex_data: bool
) -> None:
    wire = line(ScriptedModule(dialect, hex_data=hex_data))
    wire.start()
    asked: list[int] = []
    for garbage, pause in rounds:
        wire.hear(b"".join(garbage))
        asked.append(wire.send(b"\x10\x81\x00", wire.driver.joined or HOME))
        wire.wait(pause)
    wire.wait(300.0)
    wire.hear(b"\r\n" * 2_000)
    wire.wait(70.0)
    assert wire.driver.phase is Phase.SERVING
    done = [event.send_id for event in wire.events if isinstance(event, SendDone)]
    assert sorted(done) == asked
    wire.told()
    wire.hear(wire.module.event(0x25))
    assert AuthOk(HOME, 86_400) in wire.told()


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=64))
def test_memory_stays_bounded_under_endless_garbage(pattern: bytes) -> None:
    driver = MeterDriver(None, random.Random(1))
    driver.start(CREDENTIALS, 0.0)
    driver.port_opened(0.0)
    for _ in range(40):
        driver.receive(pattern * 32, 0.0)
        driver.take_output()
        driver.take_events()
    assert len(driver._reader._line) <= 3072 + 1232
    assert len(driver._reader._block) <= 8
    assert len(driver._dialogue._answer.replies) <= 64
