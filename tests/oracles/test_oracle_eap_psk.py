"""EAP-PSK against the implementation of hostapd and wpa_supplicant, over RADIUS on the loopback."""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign import PATIENCE_S, dumped, program, running
from radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    MPPE_RECV_KEY,
    MPPE_SEND_KEY,
    SECRET,
    Packet,
    carry_peer,
    carry_server,
    mppe_key,
)

from meter_runtime.comm.auth import eax
from meter_runtime.comm.auth.eap_psk import (
    EapPskPeer,
    EapPskServer,
    SessionKeys,
    State,
    derive_static_keys,
)

LOOPBACK = "127.0.0.1"
PSK = bytes.fromhex("a1b2c3d4e5f60718293a4b5c6d7e8f90")
OTHER_PSK = bytes(range(16))
ID_S = b"SM0123456789ABCDEF0123456789ABCDEF"
ID_P = b"HEMS0123456789ABCDEF0123456789ABCDEF"


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((LOOPBACK, 0))
        opened.settimeout(PATIENCE_S)
        yield opened


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((LOOPBACK, 0))
        return int(opened.getsockname()[1])


def serve_eapol_test(port: socket.socket, directory: Path, psk: bytes) -> tuple[EapPskServer, int]:
    """Our server against eapol_test, which holds :data:`PSK`; gives its exit status too."""
    client = program("eapol_test", "eapoltest")
    network = f'network={{\nkey_mgmt=WPA-EAP\neap=PSK\nidentity="{ID_P.decode()}"\n'
    (directory / "network").write_text(f"{network}password={PSK.hex()}\n}}\n")
    server = EapPskServer(psk, ID_S, random.Random(1).randbytes, 254, expected_peer=ID_P)
    command = [client, "-c", str(directory / "network"), "-a", LOOPBACK]
    command += ["-p", str(port.getsockname()[1]), "-s", SECRET.decode(), "-t", f"{PATIENCE_S:.0f}"]
    with running(command, directory / "log") as process:
        carry_server(server, port)
        status = process.wait(PATIENCE_S)
    return server, status


def join_hostapd(port: socket.socket, directory: Path, psk: bytes) -> tuple[EapPskPeer, Packet]:
    """Our peer against hostapd's RADIUS server, which holds :data:`PSK`; gives its verdict too."""
    server = program("hostapd", "hostapd")
    number = free_port()
    (directory / "users").write_text(f'"{ID_P.decode()}" PSK {PSK.hex()}\n')
    (directory / "clients").write_text(f"{LOOPBACK}/32 {SECRET.decode()}\n")
    (directory / "hostapd.conf").write_text(
        f"driver=none\ninterface=oracle\neap_server=1\neap_user_file={directory}/users\n"
        f"radius_server_clients={directory}/clients\nradius_server_auth_port={number}\n"
        f"server_id={ID_S.decode()}\n"
    )
    peer = EapPskPeer(psk, ID_P, random.Random(2).randbytes)
    with running([server, "-dd", "-K", str(directory / "hostapd.conf")], directory / "log"):
        verdict = carry_peer(peer, ID_P, port, (LOOPBACK, number))
    return peer, verdict


def assert_same_keys(log: Path, keys: SessionKeys | None) -> tuple[bytes, bytes]:
    """Every key of the log is ours; gives AK and TEK."""
    assert keys is not None
    ak, kdk = derive_static_keys(PSK)
    ours = {"AK": ak, "KDK": kdk, "TEK": keys.tek, "MSK": keys.msk, "EMSK": keys.emsk}
    for label, key in ours.items():
        assert dumped(log, f"EAP-PSK: {label}") == [key]
    return ak, keys.tek


def test_our_server_and_eapol_test_agree(port: socket.socket, tmp_path: Path) -> None:
    server, status = serve_eapol_test(port, tmp_path, PSK)
    log = tmp_path / "log"
    assert status == 0
    assert "MPPE keys OK: 1  mismatch: 0" in log.read_text()
    assert (server.state, server.peer_id) == (State.SUCCEEDED, ID_P)
    ak, tek = assert_same_keys(log, server.keys)
    rand_s, rand_p = dumped(log, "EAP-PSK: RAND_S")[0], dumped(log, "EAP-PSK: RAND_P")[0]
    assert dumped(log, "EAP-PSK: MAC_P") == [eax.cmac(ak, ID_P + ID_S + rand_s + rand_p)]
    assert dumped(log, "EAP-PSK: MAC_S") == [eax.cmac(ak, ID_S + rand_p)]
    for nonce, header, label in (
        (0, bytes((1, 255, 0, 59, 47, 0x80)), "PCHANNEL"),
        (1, bytes((2, 255, 0, 43, 47, 0xC0)), "reply message (PCHANNEL)"),
    ):
        ciphertext, tag = eax.encrypt(tek, nonce.to_bytes(16, "big"), header + rand_s, b"\x80")
        channel = nonce.to_bytes(4, "big") + tag + ciphertext
        assert dumped(log, f"EAP-PSK: {label}") == [channel]


def test_our_server_refuses_an_eapol_test_with_another_key(
    port: socket.socket, tmp_path: Path
) -> None:
    server, status = serve_eapol_test(port, tmp_path, OTHER_PSK)
    assert server.state is State.FAILED
    assert server.keys is None
    assert status != 0
    assert (tmp_path / "log").read_text().rstrip().endswith("FAILURE")


def test_our_peer_and_hostapd_agree(port: socket.socket, tmp_path: Path) -> None:
    peer, verdict = join_hostapd(port, tmp_path, PSK)
    log = tmp_path / "log"
    assert verdict.code == ACCESS_ACCEPT
    assert (peer.state, peer.server_id) == (State.SUCCEEDED, ID_S)
    ak, _ = assert_same_keys(log, peer.keys)
    rand_s = dumped(log, "EAP-PSK: RAND_S (server rand)")[0]
    rand_p = dumped(log, "EAP-PSK: RAND_P (client rand)")[0]
    assert dumped(log, "EAP-PSK: MAC_P") == [eax.cmac(ak, ID_P + ID_S + rand_s + rand_p)]
    assert peer.keys is not None
    assert mppe_key(verdict, MPPE_RECV_KEY) == peer.keys.msk[:32]
    assert mppe_key(verdict, MPPE_SEND_KEY) == peer.keys.msk[32:]


def test_hostapd_refuses_our_peer_with_another_key(port: socket.socket, tmp_path: Path) -> None:
    peer, verdict = join_hostapd(port, tmp_path, OTHER_PSK)
    assert verdict.code == ACCESS_REJECT
    assert peer.state is State.FAILED
    assert peer.keys is None
    assert mppe_key(verdict, MPPE_RECV_KEY) is None
