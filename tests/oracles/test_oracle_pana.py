"""PANA and the EAP-PSK in it, as Wireshark reads them."""

import random
import re
from ipaddress import IPv6Address
from pathlib import Path

import pcap
import pytest
from foreign import program, read_by

from meter_runtime.comm.auth.paa import PaaSession
from meter_runtime.comm.auth.pac import PacSession
from meter_runtime.comm.auth.pana_message import PANA_PORT

PSK = bytes.fromhex("a1b2c3d4e5f60718293a4b5c6d7e8f90")
ID_S = "SM0123456789ABCDEF0123456789ABCDEF"
ID_P = "HEMS0123456789ABCDEF0123456789ABCDEF"
LIFETIME_S = 86_400
HEMS = IPv6Address("fe80::21d:1290:1:1")
METER = IPv6Address("fe80::21d:1290:1:2")

Frame = dict[str, list[str]]
"""The fields of one frame by name, each with all its values."""

FIELDS = (
    "_ws.expert.message",
    "_ws.malformed",
    "eap.code",
    "eap.psk.flags.t",
    "eap.psk.id_p",
    "eap.psk.id_s",
    "eap.psk.mac_p",
    "eap.psk.mac_s",
    "eap.psk.pchannel",
    "eap.type",
    "ipv6.src",
    "pana.avp.code",
    "pana.avp.data.enum",
    "pana.avp.data.int32",
    "pana.avp.data.uint32",
    "pana.response_to",
    "pana.sid",
    "pana.type",
    "udp.checksum.status",
)


class Conversation:
    """A client and an agent, and every datagram between them."""

    def __init__(self, pac_psk: bytes = PSK) -> None:
        rng = random.Random(5)
        self.now = 0.0
        self.datagrams: list[pcap.Datagram] = []
        self.pac = PacSession(pac_psk, ID_P.encode(), rng, 0.0, reauthenticate=False)
        self._send(HEMS, METER, self.pac.take_output())
        self.paa = PaaSession(PSK, ID_S.encode(), LIFETIME_S, rng, 0.0)
        self.settle()

    def settle(self) -> None:
        """Carry datagrams until neither has one to send."""
        for _ in range(50):
            to_pac = self._send(METER, HEMS, self.paa.take_output())
            to_paa = self._send(HEMS, METER, self.pac.take_output())
            if not to_pac and not to_paa:
                return
            for data in to_pac:
                self.pac.receive(data, self.now)
            for data in to_paa:
                self.paa.receive(data, self.now)
        raise AssertionError("the conversation has no end")

    def _send(self, source: IPv6Address, to: IPv6Address, packets: list[bytes]) -> list[bytes]:
        for data in packets:
            self.now += 0.05
            self.datagrams.append((self.now, source, to, data))
        return packets


def dissected(conversation: Conversation, directory: Path) -> list[Frame]:
    """The conversation as tshark reads it from a file."""
    tshark = program("tshark", "tshark")
    path = directory / "conversation.pcap"
    pcap.write(path, conversation.datagrams, PANA_PORT)
    command = [tshark, "-n", "-r", str(path), "-o", "udp.check_checksum:TRUE"]
    whole = read_by([*command, "-V"])
    assert whole.count("Protocol for carrying Authentication for Network Access") == len(
        conversation.datagrams
    )
    for trouble in ("Malformed", "Expert Info", "Unknown type"):
        assert trouble not in whole
    command += ["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,"]
    for name in FIELDS:
        command += ["-e", name]
    lines = read_by(command).splitlines()
    assert len(lines) == len(conversation.datagrams)
    # The field pana.flags has eight bits of the sixteen; what is shown has all.
    shown = re.findall(r"^    Flags: (0x[0-9a-f]+)", whole, re.MULTILINE)
    frames = []
    for line, bits in zip(lines, shown, strict=True):
        values = [value.split(",") if value else [] for value in line.split("\t")]
        frames.append(dict(zip(FIELDS, values, strict=True)) | {"flags": [bits]})
    return frames


def flags(frame: Frame) -> str:
    """The set flags as letters."""
    bits = int(frame["flags"][0], 0)
    assert not bits & 0x0FFF
    return "".join(letter for place, letter in enumerate("RSCA") if bits & 0x8000 >> place)


def heads(frames: list[Frame]) -> list[tuple[str, str]]:
    return [(frame["pana.type"][0], flags(frame)) for frame in frames]


def numbers(frame: Frame, name: str) -> list[int]:
    return [int(value, 0) for value in frame[name]]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """Join, renewal, leave."""
    conversation = Conversation()
    assert conversation.pac.is_open
    assert conversation.paa.is_open
    conversation.pac.reauthenticate(conversation.now)
    conversation.settle()
    conversation.pac.terminate(conversation.now)
    conversation.settle()
    assert conversation.paa.is_over
    return dissected(conversation, tmp_path_factory.mktemp("life"))


def test_every_frame_is_well_formed(life: list[Frame]) -> None:
    for frame in life:
        assert frame["_ws.malformed"] == frame["_ws.expert.message"] == []
        assert frame["udp.checksum.status"] in (["1"], ["Good"])


def test_types_and_flags_are_those_of_a_whole_life(life: list[Frame]) -> None:
    rounds = [("2", "R"), ("2", "")] * 2 + [("2", "RC"), ("2", "C")]
    join = [("1", ""), ("2", "RS"), ("2", "S"), *rounds]
    renewal = [("4", "RA"), ("4", "A"), *rounds]
    assert heads(life) == [*join, *renewal, ("3", "R"), ("3", "")]


def test_answers_belong_to_their_requests_in_one_session(life: list[Frame]) -> None:
    asked = {frame["pana.response_to"][0] for frame in life if frame["pana.response_to"]}
    requests = [str(number) for number, frame in enumerate(life, 1) if "R" in flags(frame)]
    assert sorted(asked) == sorted(requests)
    assert len({frame["pana.sid"][0] for frame in life[1:]}) == 1
    assert numbers(life[0], "pana.sid") == [0]


def test_avps_are_those_of_each_message(life: list[Frame]) -> None:
    # The dissector files the value of a Result-Code under the AVP's code: a 0 after the 7.
    first = [["5", "2"], ["5", "2"], ["2"], ["2"]]
    last = [["7", "0", "2", "4", "8", "1"], ["4", "1"]]
    again = [["1"], ["1"], *[[*codes, "1"] for codes in first], *last]
    codes = [frame["pana.avp.code"] for frame in life]
    assert codes == [[], ["6", "3"], ["6", "3"], *first, *last, *again, ["9", "1"], ["1"]]


def test_algorithms_lifetime_keys_and_cause_have_their_values(life: list[Frame]) -> None:
    assert numbers(life[1], "pana.avp.data.uint32") == [5, 12]
    for frame, key_id in ((life[7], 1), (life[15], 2)):
        assert numbers(frame, "pana.avp.data.uint32")[-1] == LIFETIME_S
        assert numbers(frame, "pana.avp.data.int32") == [key_id]
        assert frame["eap.code"] == ["3"]
    assert life[17]["pana.avp.data.enum"] == ["1"]


@pytest.mark.parametrize("begins", [3, 11])
def test_the_eap_psk_within_is_understood(life: list[Frame], begins: int) -> None:
    conversation = life[begins : begins + 4]
    assert [frame["eap.code"] for frame in conversation] == [["1"], ["2"]] * 2
    assert [frame["eap.type"] for frame in conversation] == [["47"]] * 4
    assert [numbers(frame, "eap.psk.flags.t") for frame in conversation] == [[0], [1], [2], [3]]
    hello, proof, answer, done = conversation
    assert hello["eap.psk.id_s"] == [ID_S]
    assert proof["eap.psk.id_p"] == [ID_P]
    assert len(proof["eap.psk.mac_p"]) == len(answer["eap.psk.mac_s"]) == 1
    assert len(answer["eap.psk.pchannel"]) == len(done["eap.psk.pchannel"]) == 1


def test_a_rejection_is_understood(tmp_path: Path) -> None:
    frames = dissected(Conversation(pac_psk=bytes(16)), tmp_path)
    assert heads(frames)[-2:] == [("2", "RC"), ("2", "C")]
    assert frames[-2]["pana.avp.code"] == ["7", "1", "2"]
    assert frames[-2]["eap.code"] == ["4"]
    assert frames[-1]["pana.avp.code"] == []


def test_a_farewell_of_the_meter_is_understood(tmp_path: Path) -> None:
    conversation = Conversation()
    conversation.paa.terminate(conversation.now)
    conversation.settle()
    frames = dissected(conversation, tmp_path)
    assert heads(frames)[-2:] == [("3", "R"), ("3", "")]
    assert [frame["ipv6.src"] for frame in frames[-2:]] == [[str(METER)], [str(HEMS)]]
    assert frames[-2]["pana.avp.data.enum"] == ["4"]
