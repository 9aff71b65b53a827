"""EAP-PSK, server and peer: the conversation, its keys, and what neither end may believe."""

import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm.auth import eap_psk, eax
from meter_runtime.comm.auth.eap_psk import (
    Code,
    EapPskPeer,
    EapPskServer,
    MalformedEap,
    State,
    derive_session_keys,
)

PSK = bytes.fromhex("0123456789abcdef0123456789abcdef")
OTHER_PSK = bytes(16)
ID_S = b"SM" + b"0" * 32
ID_P = b"HEMS" + b"0" * 32


def ends(
    server_psk: bytes = PSK, peer_psk: bytes = PSK, expected_peer: bytes | None = None
) -> tuple[EapPskServer, EapPskPeer]:
    rng = random.Random(1)
    server = EapPskServer(server_psk, ID_S, rng.randbytes, 254, expected_peer=expected_peer)
    return server, EapPskPeer(peer_psk, ID_P, rng.randbytes)


def converse(
    server: EapPskServer, peer: EapPskPeer, meddle: Callable[[bytes], bytes] = lambda data: data
) -> list[bytes]:
    """Every packet until one end has nothing to say."""
    packets = [server.start()]
    while True:
        speaker = peer if len(packets) % 2 else server
        answer = speaker.receive(meddle(packets[-1]))
        if answer is None:
            return packets
        packets.append(answer)


def aes(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - the RFC's key derivation
    return encryptor.update(block)


def test_both_ends_agree_on_identities_and_keys() -> None:
    server, peer = ends()
    packets = converse(server, peer)
    assert [packet[0] for packet in packets] == [1, 2, 1, 2, 3]
    assert server.state is peer.state is State.SUCCEEDED
    assert server.keys == peer.keys is not None
    assert (server.peer_id, peer.server_id) == (ID_P, ID_S)
    assert [len(packet) for packet in packets] == [22 + 34, 22 + 32 + 36, 22 + 16 + 21, 22 + 21, 4]


def test_identifiers_count_up_and_the_verdict_repeats_the_last() -> None:
    server, peer = ends()
    assert [packet[1] for packet in converse(server, peer)] == [254, 254, 255, 255, 255]


def test_keys_are_those_of_a_straightforward_reading_of_the_rfc() -> None:
    server, peer = ends()
    _, response, request, *_ = converse(server, peer)
    rand_s, rand_p, mac_p = response[6:22], response[22:38], response[38:54]
    seed = int.from_bytes(aes(PSK, bytes(16)), "big")
    ak, kdk = (aes(PSK, (seed ^ counter).to_bytes(16, "big")) for counter in (1, 2))
    assert mac_p == eax.cmac(ak, ID_P + ID_S + rand_s + rand_p)
    assert request[22:38] == eax.cmac(ak, ID_S + rand_p)
    seed = int.from_bytes(aes(kdk, rand_p), "big")
    stream = b"".join(aes(kdk, (seed ^ counter).to_bytes(16, "big")) for counter in range(1, 10))
    assert server.keys is not None
    assert server.keys.tek + server.keys.msk + server.keys.emsk == stream
    assert [len(key) for key in (server.keys.tek, server.keys.msk, server.keys.emsk)] == [
        16,
        64,
        64,
    ]


def test_a_peer_without_the_key_is_refused() -> None:
    server, peer = ends(peer_psk=OTHER_PSK)
    packets = converse(server, peer)
    assert packets[-1] == eap_psk.failure(254)
    assert len(packets) == 3
    assert server.state is peer.state is State.FAILED
    assert server.keys is peer.keys is peer.pending_keys is None


def test_a_server_without_the_key_is_refused() -> None:
    """It can answer anything but the peer's challenge."""
    server, peer = ends()
    first = server.start()
    answer = peer.receive(first)
    assert answer is not None
    forged = eap_psk.encode(Code.REQUEST, 255, 2, first[6:22], bytes(16 + 21))
    assert peer.receive(forged) is None
    assert peer.state is State.FAILED
    assert peer.receive(eap_psk.success(255)) is None
    assert peer.keys is None


def test_a_server_that_proves_itself_over_a_broken_channel_is_told_so() -> None:
    server, peer = ends()
    answer = peer.receive(server.start())
    assert answer is not None
    request = server.receive(answer)
    assert request is not None
    told = peer.receive(request[:-1] + bytes((request[-1] ^ 0xC0,)))
    assert told is not None
    assert peer.state is State.FAILED
    assert server.receive(told) == eap_psk.failure(255)
    assert server.keys is None


def test_only_the_expected_identity_is_admitted() -> None:
    server, peer = ends(expected_peer=b"HEMS" + b"1" * 32)
    assert converse(server, peer)[-1] == eap_psk.failure(254)
    server, peer = ends(expected_peer=ID_P)
    converse(server, peer)
    assert server.state is State.SUCCEEDED


def test_a_repeated_request_gets_the_same_answer() -> None:
    server, peer = ends()
    first = server.start()
    answer = peer.receive(first)
    assert peer.receive(first) == answer is not None
    request = server.receive(answer)
    assert request is not None
    assert peer.receive(request) == peer.receive(request)


def test_a_repeated_response_is_discarded() -> None:
    server, peer = ends()
    answer = peer.receive(server.start())
    assert answer is not None
    assert server.receive(answer) is not None
    assert server.receive(answer) is None
    assert server.state is State.RUNNING


def test_success_before_the_server_proved_itself_is_not_believed() -> None:
    server, peer = ends()
    for _ in range(2):
        peer.receive(eap_psk.success(1))
        assert peer.keys is None
        assert peer.state is State.RUNNING
        peer.receive(server.start())


def test_a_server_that_proved_itself_cannot_be_replaced() -> None:
    server, peer = ends()
    answer = peer.receive(server.start())
    assert answer is not None
    request = server.receive(answer)
    assert request is not None
    peer.receive(request)
    stranger = eap_psk.encode(Code.REQUEST, 9, 0, bytes(16), b"SM of a stranger")
    assert peer.receive(stranger) is None
    assert peer.server_id == ID_S


@pytest.mark.parametrize("turn", range(4))
@given(data=st.data())
def test_one_changed_bit_never_makes_two_ends_disagree(turn: int, data: st.DataObject) -> None:
    server, peer = ends()
    turns = iter(range(9))

    def meddle(packet: bytes) -> bytes:
        if next(turns) != turn:
            return packet
        bit = data.draw(st.integers(0, 8 * len(packet) - 1))
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    converse(server, peer, meddle)
    if server.keys is not None:
        assert server.keys == peer.pending_keys
    if peer.keys is not None:
        assert peer.keys == server.keys


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_or_malformed(data: bytes) -> None:
    try:
        packet = eap_psk.parse(data)
    except MalformedEap:
        return
    assert packet.header + packet.body == data[: len(packet.header + packet.body)]


@given(
    st.tuples(
        st.sampled_from((Code.REQUEST, Code.RESPONSE)),
        st.integers(0, 255),
        st.integers(0, 3),
        st.binary(min_size=16, max_size=16),
        st.binary(max_size=60),
    ),
    st.binary(max_size=4),
)
def test_what_was_encoded_is_parsed_with_or_without_padding(
    fields: tuple[Code, int, int, bytes, bytes], padding: bytes
) -> None:
    packet = eap_psk.parse(eap_psk.encode(*fields) + padding)
    found = (packet.code, packet.identifier, packet.message, packet.rand_s, packet.body)
    assert found == fields


@given(st.integers(0, 3), st.lists(st.binary(max_size=21), max_size=4))
def test_noise_changes_nothing(turn: int, noise: list[bytes]) -> None:
    server, peer = ends()
    turns = iter(range(9))

    def meddle(packet: bytes) -> bytes:
        if next(turns) == turn:
            for piece in noise:
                # Whole verdicts are the carrier's to protect: EAP itself does not sign them.
                if piece[:1] not in (b"\x03", b"\x04"):
                    assert server.receive(piece) is None
                    assert peer.receive(piece) is None
        return packet

    converse(server, peer, meddle)
    assert server.keys == peer.keys is not None


@pytest.mark.parametrize("cut", range(43))
def test_a_cut_packet_is_discarded_or_refused(cut: int) -> None:
    server, peer = ends()
    *_, last, _ = converse(server, peer)
    with pytest.raises(MalformedEap):
        eap_psk.parse(last[:cut])


@pytest.mark.parametrize("length", [0, 967])
def test_an_identity_has_1_to_966_bytes(length: int) -> None:
    _, peer = ends()
    assert peer.receive(eap_psk.encode(Code.REQUEST, 1, 0, bytes(16), bytes(length))) is None
    rng = random.Random(1)
    server = EapPskServer(PSK, ID_S, rng.randbytes, 1)
    verdict = EapPskPeer(PSK, bytes(length), rng.randbytes).receive(server.start())
    assert verdict is not None
    assert server.receive(verdict) == eap_psk.failure(1)


def test_keys_are_not_in_the_repr() -> None:
    keys = derive_session_keys(PSK, bytes(16))
    assert repr(keys) == "SessionKeys()"
