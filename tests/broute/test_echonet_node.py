"""The services: who is answered, by which code, and who is met with silence."""

import pytest
from home_meter import Home, HomeMeter, home, settings, slot_of
from hypothesis import given
from hypothesis import strategies as st
from real_meter_frames import FRAMES

from meter_runtime.broute.echonet.frame import Esv, Frame, Property, encode, parse
from meter_runtime.broute.echonet.meter_class import METER_EOJ
from meter_runtime.broute.echonet.node import CONTROLLER_EOJ, EchonetNode
from meter_runtime.broute.echonet.node_profile import NODE_EOJ
from meter_runtime.comm.contracts import MAX_PAYLOAD

GET_POWER = bytes.fromhex("1081000105FF010288016201E700")


def node(profile: str = "aif-1.01", **changes: object) -> EchonetNode:
    return EchonetNode(settings(profile, **changes), HomeMeter())


def told(answer: Frame | None) -> tuple[int, list[tuple[int, bytes]]]:
    """The answer's service code and properties."""
    assert answer is not None
    return answer.esv, [(epc, edt) for epc, edt in answer.properties]


def silent(counters: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counters.items() if count}


def test_a_get_is_answered_from_the_asked_object_to_the_asker() -> None:
    expected = bytes.fromhex("1081000102880105FF017201E704000001F4")
    assert node().handle(GET_POWER) == expected


def test_the_tid_is_copied_and_every_copy_of_a_request_is_answered() -> None:
    meter = node()
    request = GET_POWER[:2] + b"\xbe\xef" + GET_POWER[4:]
    answers = [meter.handle(request) for _ in range(3)]
    assert len(set(answers)) == 1
    assert answers[0] is not None
    assert answers[0][2:4] == b"\xbe\xef"


def test_properties_are_answered_in_the_order_asked_and_as_often() -> None:
    answer = home().get(0xE8, 0x80, 0xE8, 0xD7)
    assert answer.esv == Esv.GET_RES
    assert [epc for epc, _ in answer.properties] == [0xE8, 0x80, 0xE8, 0xD7]
    assert answer.properties[0] == answer.properties[2]


def test_one_property_that_cannot_be_read_fails_the_whole_get() -> None:
    assert told(home().get(0x80, 0xE9, 0xE7)) == (
        Esv.GET_SNA,
        [(0x80, b"\x30"), (0xE9, b""), (0xE7, bytes.fromhex("000001F4"))],
    )


def test_a_taken_write_is_confirmed_without_data() -> None:
    assert told(home().ask(Esv.SET_C, (0xE5, b"\x01"), (0x81, b"\x09"))) == (
        Esv.SET_RES,
        [(0xE5, b""), (0x81, b"")],
    )


def test_a_refused_write_is_echoed_and_the_others_stay_written() -> None:
    controller = home()
    assert told(
        controller.ask(Esv.SET_C, (0xE5, b"\x64"), (0x97, b"\x01\x02"), (0x81, b"\x09"))
    ) == (
        Esv.SET_C_SNA,
        [(0xE5, b"\x64"), (0x97, b"\x01\x02"), (0x81, b"")],
    )
    assert controller.edt(0x81) == b"\x09"
    assert controller.edt(0xE5) == b"\xff"


def test_a_write_without_answer_is_answered_only_when_refused() -> None:
    controller = home()
    assert controller.ask(Esv.SET_I, (0x81, b"\x09")) is None
    assert controller.edt(0x81) == b"\x09"
    refusal = controller.ask(Esv.SET_I, (0x81, b"\x0a"), (0x80, b"\x31"))
    assert told(refusal) == (Esv.SET_I_SNA, [(0x81, b""), (0x80, b"\x31")])
    assert controller.edt(0x81) == b"\x0a"


def test_a_notification_is_given_of_any_readable_property() -> None:
    controller = home()
    assert told(controller.ask(Esv.INF_REQ, (0xE7, b""))) == (
        Esv.INF,
        [(0xE7, bytes.fromhex("000001F4"))],
    )
    assert told(controller.ask(Esv.INF_REQ, (0xE7, b""), (0xE9, b""))) == (
        Esv.INF_SNA,
        [(0xE7, bytes.fromhex("000001F4")), (0xE9, b"")],
    )


def test_the_instance_list_is_notified_on_request_but_not_gettable() -> None:
    controller = Home(node(), NODE_EOJ)
    assert told(controller.ask(Esv.INF_REQ, (0xD5, b""))) == (
        Esv.INF,
        [(0xD5, bytes.fromhex("01028801"))],
    )
    assert controller.get(0xD5).esv == Esv.GET_SNA


def test_a_set_get_writes_before_it_reads() -> None:
    answer = home().ask(Esv.SET_GET, (0x81, b"\x09"), then_get=(0x81, 0x80))
    assert told(answer) == (Esv.SET_GET_RES, [(0x81, b"")])
    assert answer is not None
    assert answer.properties_get == (Property(0x81, b"\x09"), Property(0x80, b"\x30"))


@pytest.mark.parametrize(
    ("written", "read", "writes", "reads"),
    [
        ((0x80, b"\x31"), 0x80, (0x80, b"\x31"), (0x80, b"\x30")),
        ((0x81, b"\x09"), 0xE9, (0x81, b""), (0xE9, b"")),
    ],
)
def test_a_set_get_fails_as_a_whole_and_shows_what_failed(
    written: tuple[int, bytes],
    read: int,
    writes: tuple[int, bytes],
    reads: tuple[int, bytes],
) -> None:
    answer = home().ask(Esv.SET_GET, written, then_get=(read,))
    assert told(answer) == (Esv.SET_GET_SNA, [writes])
    assert answer is not None
    assert answer.properties_get == (Property(*reads),)


def test_an_infc_to_an_object_we_have_is_confirmed() -> None:
    answer = home().ask(Esv.INFC, (0x80, b"\x30"), (0x88, b"\x42"))
    assert told(answer) == (Esv.INFC_RES, [(0x80, b""), (0x88, b"")])
    assert answer is not None
    assert (answer.seoj, answer.deoj) == (METER_EOJ, CONTROLLER_EOJ)


@pytest.mark.parametrize("esv", [Esv.GET, Esv.SET_C, Esv.INF_REQ, Esv.INFC, Esv.SET_I])
@pytest.mark.parametrize("eoj", ["028802", "028701", "0EF002", "05FF01", "0EF1FF"])
def test_an_object_we_do_not_have_is_silent(esv: int, eoj: str) -> None:
    controller = Home(node(), bytes.fromhex(eoj))
    assert controller.ask(esv, (0x80, b"")) is None
    assert silent(controller.node.counters) == {"unknown_object": 1}


@pytest.mark.parametrize(("eoj", "real"), [("028800", METER_EOJ), ("0EF000", NODE_EOJ)])
def test_every_instance_of_a_class_answers_with_its_own_code(eoj: str, real: bytes) -> None:
    answer = Home(node(), bytes.fromhex(eoj)).get(0x80)
    assert answer.esv == Esv.GET_RES
    assert answer.seoj == real


@given(st.integers(0, 255).filter(lambda esv: esv not in (0x60, 0x61, 0x62, 0x63, 0x6E, 0x74)))
def test_what_is_no_request_is_silent(esv: int) -> None:
    second = b"\x00" if esv in (0x7E, 0x5E) else b""
    meter = node()
    assert meter.handle(GET_POWER[:10] + bytes((esv,)) + GET_POWER[11:] + second) is None
    assert silent(meter.counters) == {"no_request": 1}


def test_a_request_for_nothing_is_malformed() -> None:
    for esv in (Esv.GET, Esv.SET_C, Esv.SET_I, Esv.INF_REQ, Esv.INFC):
        controller = home()
        assert controller.ask(esv) is None
        assert silent(controller.node.counters) == {"malformed": 1}
    controller = home()
    assert controller.ask(Esv.SET_GET, then_get=()) is None
    assert silent(controller.node.counters) == {"malformed": 1}


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.hex()[:48])
def test_every_truncation_of_a_real_frame_is_silent_and_counted(frame: bytes) -> None:
    meter = node()
    for size in range(len(frame)):
        assert meter.handle(frame[:size]) is None
    assert silent(meter.counters) == {"malformed": len(frame)}


@pytest.mark.parametrize(("profile", "limit"), [("kansai", 6), ("aif-1.01", 6), ("aif-1.10", 7)])
def test_more_properties_than_the_meter_takes_are_cut_and_refused(profile: str, limit: int) -> None:
    controller = home(profile=profile)
    epcs = (0x80, 0x88, 0xE7, 0xE8, 0xE0, 0xE3, 0xD7, 0xEA, 0xEB, 0x81)
    assert controller.get(*epcs[:limit]).esv == Esv.GET_RES
    answer = controller.get(*epcs)
    assert answer.esv == Esv.GET_SNA
    assert [epc for epc, _ in answer.properties] == list(epcs[:limit])
    assert all(edt for _, edt in answer.properties)


def test_writes_beyond_the_limit_are_not_carried_out() -> None:
    controller = home()
    writes = [(0x81, bytes((0x10 + i,))) for i in range(8)]
    answer = controller.ask(Esv.SET_C, *writes)
    assert told(answer) == (Esv.SET_C_SNA, [(0x81, b"")] * 6)
    assert controller.edt(0x81) == b"\x15"


def test_both_lists_of_a_set_get_share_the_limit() -> None:
    writes = [(0x81, b"\x10")] * 4
    answer = home().ask(Esv.SET_GET, *writes, then_get=(0x80, 0x88, 0xE7))
    assert answer is not None
    assert answer.esv == Esv.SET_GET_SNA
    assert len(answer.properties) == 4
    assert answer.properties_get == (Property(0x80, b"\x30"), Property(0x88, b"\x42"))


def test_an_answer_never_outgrows_a_datagram() -> None:
    controller = home(profile="aif-1.10")
    answer = controller.get(*(0xE2,) * 7)
    assert len(encode(answer)) <= MAX_PAYLOAD
    assert answer.esv == Esv.GET_SNA
    assert [len(edt) for _, edt in answer.properties] == [194] * 6 + [0]


def test_a_payload_longer_than_a_datagram_is_malformed() -> None:
    controller = home()
    assert controller.ask(Esv.SET_C, *((0x81, bytes(255)),) * 5) is None
    assert silent(controller.node.counters) == {"malformed": 1}


def test_the_sizes_of_history_answers() -> None:
    controller = home()
    assert len(encode(controller.get(0xE2))) == 208
    assert len(encode(controller.get(0xE2, 0xE4))) == 404


def test_answers_and_refusals_are_counted() -> None:
    controller = home()
    controller.get(0xE7)
    controller.get(0xE9)
    controller.set(0x81, b"\x09")
    controller.ask(Esv.SET_I, (0x81, b"\x09"))
    controller.ask(Esv.INFC, (0x80, b"\x30"))
    assert silent(controller.node.counters) == {"answered": 4, "refused": 1}


def test_the_instance_list_is_announced_like_a_real_meter_s() -> None:
    frame = bytes.fromhex("108100000EF0010EF0017301D50401028801")
    assert frame in FRAMES
    assert node().announcement_instance_list() == frame


def test_the_half_hour_values_are_announced_like_a_real_meter_s() -> None:
    data = HomeMeter()
    slot = slot_of("2023-12-19 00:30")
    data.boundaries[slot] = (0x458E * 1000, 0x15 * 1000)
    expected = bytes.fromhex(
        "1081000102880105FF017302EA0B07E70C13001E000000458EEB0B07E70C13001E0000000015"
    )
    assert expected in FRAMES
    meter = EchonetNode(settings(), data)
    meter.announcement_instance_list()
    assert meter.announcement_half_hour(slot) == expected


def test_a_one_way_meter_announces_only_the_forward_value() -> None:
    frame = parse(node(two_way=False).announcement_half_hour(slot_of("2026-11-22 14:00")))
    assert frame.esv == Esv.INF
    assert frame.properties == (Property(0xEA, bytes.fromhex("07EA0B160E0000FFFFFFFE")),)


def test_confirmed_announcements_ask_for_an_answer() -> None:
    meter = node(confirmed_announcements=True)
    assert parse(meter.announcement_half_hour(0)).esv == Esv.INFC
    assert parse(meter.announcement_instance_list()).esv == Esv.INF


def test_our_own_tid_runs_and_restarts_with_the_session() -> None:
    meter = node()
    tids = [parse(meter.announcement_instance_list()).tid for _ in range(0x10002)]
    assert tids[:3] == [0, 1, 2]
    assert tids[-3:] == [0xFFFF, 0, 1]
    meter.reset_session()
    assert parse(meter.announcement_half_hour(0)).tid == 0


@given(st.binary(max_size=80))
def test_arbitrary_bytes_never_raise(payload: bytes) -> None:
    node("aif-1.10").handle(payload)


requests = st.builds(
    Frame,
    st.integers(0, 0xFFFF),
    st.binary(min_size=3, max_size=3),
    st.sampled_from([METER_EOJ, NODE_EOJ, b"\x02\x88\x00"]),
    st.sampled_from([Esv.SET_I, Esv.SET_C, Esv.GET, Esv.INF_REQ, Esv.INFC]),
    st.lists(
        st.builds(Property, st.integers(0x80, 0xFF), st.binary(max_size=18)),
        min_size=1,
        max_size=12,
    ).map(tuple),
)


@given(requests, st.sampled_from(["kansai", "aif-1.01", "aif-1.10"]), st.booleans())
def test_any_request_gets_the_one_answer_of_its_service(
    request: Frame, profile: str, trusted: bool
) -> None:
    meter = EchonetNode(settings(profile), HomeMeter(trusted=trusted))
    payload = meter.handle(encode(request))
    if payload is None:
        assert request.esv == Esv.SET_I
        return
    answer = parse(payload)
    assert answer.tid == request.tid
    assert answer.deoj == request.seoj
    assert answer.seoj[:2] == request.deoj[:2]
    assert len(payload) <= MAX_PAYLOAD
    asked = [epc for epc, _ in request.properties]
    answered = [epc for epc, _ in answer.properties]
    assert answered == asked[: len(answered)]
    granted = {0x61: 0x71, 0x62: 0x72, 0x63: 0x73, 0x74: 0x7A}
    refused = {0x60: 0x50, 0x61: 0x51, 0x62: 0x52, 0x63: 0x53}
    assert answer.esv in (granted.get(request.esv), refused.get(request.esv))
    if answer.esv in (Esv.GET_RES, Esv.INF):
        assert all(edt for _, edt in answer.properties)
        assert answered == asked
