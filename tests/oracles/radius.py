"""Just enough RADIUS to carry EAP between our ends and a foreign program on the loopback.

RFC 2865 (packets), RFC 3579 (EAP-Message, Message-Authenticator), RFC 2548 (MS-MPPE keys). The
carrier does the identity round that EAP over RADIUS begins with and the B-route does not have.
"""

import hashlib
import hmac
import os
import socket
import struct
from dataclasses import dataclass, replace

from foreign import PATIENCE_S

from meter_runtime.comm.auth.eap_psk import EapPskPeer, EapPskServer, State

SECRET = b"loopback"
ACCESS_REQUEST, ACCESS_ACCEPT, ACCESS_REJECT, ACCESS_CHALLENGE = 1, 2, 3, 11
USER_NAME, STATE, VENDOR_SPECIFIC, EAP_MESSAGE, MESSAGE_AUTHENTICATOR = 1, 24, 26, 79, 80
MICROSOFT, MPPE_SEND_KEY, MPPE_RECV_KEY = 311, 16, 17

_HEADER = struct.Struct(">BBH16s")
_EAP_IDENTITY = 1
_MAX_PACKETS = 10
_REPEAT_S = 0.05

Attributes = tuple[tuple[int, bytes], ...]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Packet:
    """One RADIUS packet; an answer's authenticator is that of its request until it is sent."""

    code: int
    identifier: int
    authenticator: bytes
    attributes: Attributes

    @property
    def eap(self) -> bytes:
        return b"".join(value for kind, value in self.attributes if kind == EAP_MESSAGE)

    def get(self, kind: int) -> bytes | None:
        return next((value for found, value in self.attributes if found == kind), None)

    def vendor(self, number: int) -> bytes | None:
        """The value of a Microsoft attribute."""
        head = struct.pack(">IB", MICROSOFT, number)
        specific = (value for kind, value in self.attributes if kind == VENDOR_SPECIFIC)
        return next((value[6:] for value in specific if value.startswith(head)), None)

    def encode(self) -> bytes:
        body = b"".join(bytes((kind, 2 + len(value))) + value for kind, value in self.attributes)
        length = _HEADER.size + len(body)
        return _HEADER.pack(self.code, self.identifier, length, self.authenticator) + body

    def signed(self) -> "Packet":
        """With a Message-Authenticator, first of all attributes."""
        blank = replace(self, attributes=((MESSAGE_AUTHENTICATOR, bytes(16)), *self.attributes))
        mac = hmac.digest(SECRET, blank.encode(), "md5")
        return replace(self, attributes=((MESSAGE_AUTHENTICATOR, mac), *self.attributes))

    def is_signed(self, request_authenticator: bytes) -> bool:
        blank = tuple(
            (kind, bytes(16) if kind == MESSAGE_AUTHENTICATOR else value)
            for kind, value in self.attributes
        )
        expected = replace(self, authenticator=request_authenticator, attributes=blank)
        mac = hmac.digest(SECRET, expected.encode(), "md5")
        return mac == self.get(MESSAGE_AUTHENTICATOR)


def parse(data: bytes) -> Packet:
    code, identifier, length, authenticator = _HEADER.unpack_from(data)
    attributes = []
    at = _HEADER.size
    while at < length:
        kind, size = data[at], data[at + 1]
        attributes.append((kind, data[at + 2 : at + size]))
        at += size
    return Packet(code, identifier, authenticator, tuple(attributes))


def carry_server(server: EapPskServer, port: socket.socket) -> None:
    """Serve one authentication to the RADIUS client that asks on this socket."""
    for _ in range(_MAX_PACKETS):
        data, client = port.recvfrom(4096)
        request = parse(data)
        assert request.code == ACCESS_REQUEST
        assert request.is_signed(request.authenticator)
        is_identity = request.eap[4] == _EAP_IDENTITY
        eap = server.start() if is_identity else server.receive(request.eap)
        assert eap is not None, "the EAP response was discarded"
        port.sendto(_answer(server, request, eap), client)
        if server.state is not State.RUNNING:
            return
    raise AssertionError("the authentication has no end")


def carry_peer(peer: EapPskPeer, identity: bytes, port: socket.socket, server: Address) -> Packet:
    """Authenticate with the RADIUS server at this address; gives its verdict."""
    eap = struct.pack(">BBHB", 2, 0, 5 + len(identity), _EAP_IDENTITY) + identity
    state: Attributes = ()
    for number in range(_MAX_PACKETS):
        attributes = ((USER_NAME, identity), *_eap_attributes(eap), *state)
        request = Packet(ACCESS_REQUEST, number, os.urandom(16), attributes).signed()
        answer = _ask(port, server, request)
        response = peer.receive(answer.eap)
        if answer.code != ACCESS_CHALLENGE:
            return replace(answer, authenticator=request.authenticator)
        assert response is not None, "the EAP request was discarded"
        eap = response
        state = tuple(each for each in answer.attributes if each[0] == STATE)
    raise AssertionError("the authentication has no end")


def mppe_key(verdict: Packet, number: int) -> bytes | None:
    """A key of the verdict that :func:`carry_peer` gave, in clear."""
    value = verdict.vendor(number)
    if value is None:
        return None
    plain = _mppe(value[2:], value[:2], verdict.authenticator, decrypting=True)
    return plain[1 : 1 + plain[0]]


def _ask(port: socket.socket, server: Address, request: Packet) -> Packet:
    """Repeat the request until it is answered: a server just started does not listen yet."""
    port.settimeout(_REPEAT_S)
    data = request.encode()
    for _ in range(int(PATIENCE_S / _REPEAT_S)):
        port.sendto(data, server)
        try:
            answer = parse(port.recv(4096))
        except TimeoutError:
            continue
        if answer.identifier == request.identifier:
            assert answer.is_signed(request.authenticator)
            return answer
    raise AssertionError("the RADIUS server does not answer")


def _answer(server: EapPskServer, request: Packet, eap: bytes) -> bytes:
    attributes = _eap_attributes(eap)
    if server.keys is not None:
        code = ACCESS_ACCEPT
        halves = ((MPPE_RECV_KEY, server.keys.msk[:32]), (MPPE_SEND_KEY, server.keys.msk[32:]))
        for number, key in halves:
            salt = bytes((0x80 | number, number))
            plain = bytes((len(key),)) + key
            sealed = salt + _mppe(plain + bytes(-len(plain) % 16), salt, request.authenticator)
            head = struct.pack(">IBB", MICROSOFT, number, 2 + len(sealed))
            attributes += ((VENDOR_SPECIFIC, head + sealed),)
    elif server.state is State.FAILED:
        code = ACCESS_REJECT
    else:
        code = ACCESS_CHALLENGE
        attributes += ((STATE, b"one conversation"),)
    unsealed = Packet(code, request.identifier, request.authenticator, attributes).signed()
    seal = hashlib.md5(unsealed.encode() + SECRET, usedforsecurity=False).digest()
    return replace(unsealed, authenticator=seal).encode()


def _eap_attributes(eap: bytes) -> Attributes:
    return tuple((EAP_MESSAGE, eap[at : at + 253]) for at in range(0, len(eap), 253))


def _mppe(data: bytes, salt: bytes, authenticator: bytes, *, decrypting: bool = False) -> bytes:
    chain = authenticator + salt
    out = b""
    for at in range(0, len(data), 16):
        pad = hashlib.md5(SECRET + chain, usedforsecurity=False).digest()
        block = data[at : at + 16]
        result = bytes(a ^ b for a, b in zip(block, pad, strict=True))
        chain = block if decrypting else result
        out += result
    return out
