"""The HEMS's end of PANA: the client (RFC 5191, section 4).

The mirror of :mod:`meter_runtime.comm.auth.paa`: it asks to be admitted, answers the agent's
requests, and re-authenticates by itself at 80 % of the session's life when told to. It also
follows an agent that re-authenticates of its own accord.
"""

import enum
import random

from meter_runtime.comm.auth import eap_psk
from meter_runtime.comm.auth.eap_psk import EapPskPeer
from meter_runtime.comm.auth.pana_events import (
    REAUTHENTICATE_AT,
    Authenticated,
    Expired,
    NoAnswer,
    Rejected,
    SessionEvent,
    Terminated,
)
from meter_runtime.comm.auth.pana_exchange import Exchange
from meter_runtime.comm.auth.pana_message import (
    AUTH_HMAC_SHA2_256_128,
    PRF_HMAC_SHA2_256,
    Avp,
    Flag,
    Message,
    ResultCode,
    Type,
    auth_key,
    encode,
    u32,
)

NONCE_BYTES = 16
SILENCE_S = 240.0
"""A client that waits for the agent's next request gives up after this long: a little more than
the agent takes to give up repeating one (RFC 5191 leaves this bound to EAP)."""

_NO_FLAGS = Flag(0)
_ALGORITHMS = (
    (int(Avp.PRF_ALGORITHM), u32(PRF_HMAC_SHA2_256)),
    (int(Avp.INTEGRITY_ALGORITHM), u32(AUTH_HMAC_SHA2_256_128)),
)


class _Phase(enum.Enum):
    JOINING = enum.auto()
    OPEN = enum.auto()
    REJOINING = enum.auto()
    TERMINATING = enum.auto()
    CLOSED = enum.auto()


class PacSession:
    """Created to join; the PCI goes out at once.

    ``rng`` makes nonces: ``random.SystemRandom()`` wherever the session protects anything.
    A re-authentication that finds no answer leaves the session open with its old key until it
    expires; one that is refused ends it.
    """

    def __init__(
        self,
        psk: bytes,
        peer_id: bytes,
        rng: random.Random,
        now: float,
        *,
        reauthenticate: bool = True,
    ) -> None:
        self.psk = psk
        """What the next authentication is proved with."""
        self._peer_id, self._rng = peer_id, rng
        self._reauthenticate = reauthenticate
        self._exchange = Exchange(rng)
        self._events: list[SessionEvent] = []
        self._phase = _Phase.JOINING
        self._i_par = self._i_pan = b""
        self._paa_nonce: bytes | None = None
        self._pac_nonce = b""
        self._reauthenticate_at: float | None = None
        self._silent_at: float | None = None
        self.expires_at: float | None = None
        self._begin_eap()
        pci = Message(_NO_FLAGS, Type.CLIENT_INITIATION, 0, 0)
        self._exchange.initiate(encode(pci), now)

    @property
    def session_id(self) -> int:
        """The agent's number for this session; 0 before its first request."""
        return self._exchange.session_id

    @property
    def key(self) -> bytes | None:
        """PANA_AUTH_KEY in force."""
        return self._exchange.key

    @property
    def is_open(self) -> bool:
        return self.expires_at is not None and self._phase is not _Phase.CLOSED

    @property
    def is_over(self) -> bool:
        return self._phase is _Phase.CLOSED

    def receive(self, data: bytes, now: float) -> None:
        """Take one datagram of the agent."""
        message = self._exchange.take(data, self._complete_key)
        if message is None:
            return
        match message.type, message.is_request:
            case Type.AUTHENTICATION, True:
                self._authentication_request(message, data, now)
            case Type.NOTIFICATION, True if self.is_open:
                self._exchange.answer(message, ())
            case Type.NOTIFICATION, False if self._phase is _Phase.REJOINING:
                self._silent_at = now + SILENCE_S
            case Type.TERMINATION, True if self.is_open:
                self._exchange.answer(message, ())
                self._close(Terminated(by_peer=True))
            case Type.TERMINATION, False:
                self._close(Terminated(by_peer=False))

    def reauthenticate(self, now: float) -> None:
        """Ask the agent for a new round of authentication within the session."""
        if self._phase is not _Phase.OPEN:
            return
        self._phase = _Phase.REJOINING
        self._reauthenticate_at = None
        self._begin_eap()
        self._exchange.request(Flag.REAUTHENTICATION, Type.NOTIFICATION, (), now)

    def abandon(self) -> None:
        """Wait no longer for a re-authentication; the session stays as it was.

        Should the agent go on with it all the same, it is followed.
        """
        if self._phase is _Phase.REJOINING:
            self._phase, self._silent_at = _Phase.OPEN, None
            self._exchange.settle()

    def terminate(self, now: float) -> None:
        """Leave (TERMINATION_CAUSE 1: logout); at once where the session is not open."""
        if self._phase in (_Phase.TERMINATING, _Phase.CLOSED):
            return
        if not self.is_open:
            self._close(Terminated(by_peer=False, answered=False))
            return
        self._reauthenticate_at = self._silent_at = None
        self._phase = _Phase.TERMINATING
        cause = ((int(Avp.TERMINATION_CAUSE), u32(1)),)
        self._exchange.request(_NO_FLAGS, Type.TERMINATION, cause, now)

    def tick(self, now: float) -> None:
        """Repeat, re-authenticate, give up or expire: whatever is due."""
        if self._phase is _Phase.CLOSED:
            return
        if self.expires_at is not None and now >= self.expires_at:
            self._close(Expired())
        elif self._reauthenticate_at is not None and now >= self._reauthenticate_at:
            self.reauthenticate(now)
        elif self._exchange.tick(now):
            if self._phase is _Phase.TERMINATING:
                self._close(Terminated(by_peer=False, answered=False))
            else:
                self._meet_silence()
        elif self._silent_at is not None and now >= self._silent_at:
            self._meet_silence()

    def next_deadline(self) -> float | None:
        if self._phase is _Phase.CLOSED:
            return None
        candidates = (
            self._exchange.deadline,
            self.expires_at,
            self._reauthenticate_at,
            self._silent_at,
        )
        return min((d for d in candidates if d is not None), default=None)

    def take_output(self) -> list[bytes]:
        return self._exchange.take_output()

    def take_events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events

    def _begin_eap(self) -> None:
        self._eap = EapPskPeer(self.psk, self._peer_id, self._rng.randbytes)
        self._pac_nonce = self._rng.randbytes(NONCE_BYTES)
        self._paa_nonce = None

    def _authentication_request(self, message: Message, data: bytes, now: float) -> None:
        if message.flags & Flag.START:
            if self._phase is _Phase.JOINING and not self._i_par and _offers_ours(message):
                self._exchange.settle()
                self._exchange.session_id = message.session_id
                self._i_par = data
                self._i_pan = self._exchange.answer(message, _ALGORITHMS)
                self._silent_at = now + SILENCE_S
        elif not self._i_par or self._phase is _Phase.TERMINATING:
            return
        elif message.flags & Flag.COMPLETE:
            self._complete(message, now)
        elif self._phase is not _Phase.CLOSED:
            self._eap_request(message, now)

    def _eap_request(self, message: Message, now: float) -> None:
        avps: list[tuple[int, bytes]] = []
        nonce = message.nonce
        if nonce is None and self._paa_nonce is None:
            return  # of a round that was given up: ours begins with a nonce
        if nonce is not None and self._paa_nonce is not None:
            self._begin_eap()  # the agent begins a round of its own accord, or once more
        if nonce is not None and self._phase is _Phase.OPEN:
            self._phase, self._reauthenticate_at = _Phase.REJOINING, None
        if self._phase is _Phase.REJOINING:
            # A request proves that ours was heard, though its answer may be lost; under the new
            # key the answer could not be told from a forged one.
            self._exchange.settle()
        if self._phase is not _Phase.OPEN:
            self._silent_at = now + SILENCE_S
        if nonce is not None:
            self._paa_nonce = nonce
            avps.append((int(Avp.NONCE), self._pac_nonce))
        answer = self._eap.receive(message.get(Avp.EAP_PAYLOAD) or b"")
        if answer is not None:
            avps.append((int(Avp.EAP_PAYLOAD), answer))
        self._exchange.answer(message, tuple(avps))
        if self._eap.state is eap_psk.State.FAILED:
            self._close(Rejected())

    def _complete_key(self, message: Message) -> bytes | None:
        keys, key_id = self._eap.pending_keys, message.get(Avp.KEY_ID)
        if message.number(Avp.RESULT_CODE) not in (None, ResultCode.SUCCESS):
            return self._exchange.key
        if keys is None or key_id is None or self._paa_nonce is None:
            return self._rng.randbytes(32)  # a key nobody holds: the message cannot be genuine
        return auth_key(
            keys.msk,
            i_par=self._i_par,
            i_pan=self._i_pan,
            pac_nonce=self._pac_nonce,
            paa_nonce=self._paa_nonce,
            key_id=key_id,
        )

    def _complete(self, message: Message, now: float) -> None:
        if message.number(Avp.RESULT_CODE) != ResultCode.SUCCESS:
            self._exchange.answer(message, ())
            self._close(Rejected())
            return
        lifetime_s = message.number(Avp.SESSION_LIFETIME)
        if self._eap.state is not eap_psk.State.RUNNING:
            return
        self._eap.receive(message.get(Avp.EAP_PAYLOAD) or b"")
        if self._eap.keys is None or lifetime_s is None:
            return
        self._exchange.key = self._complete_key(message)
        key_id = message.get(Avp.KEY_ID) or b""
        self._exchange.answer(message, ((int(Avp.KEY_ID), key_id),))
        again, self._phase = self.is_open, _Phase.OPEN
        self._silent_at = None
        self.expires_at = now + lifetime_s
        if self._reauthenticate:
            self._reauthenticate_at = now + lifetime_s * REAUTHENTICATE_AT
        self._events.append(Authenticated(lifetime_s, again))

    def _meet_silence(self) -> None:
        if self._phase is _Phase.REJOINING:
            self.abandon()
        else:
            self._close(NoAnswer())

    def _close(self, event: SessionEvent) -> None:
        if self._phase is _Phase.CLOSED:
            return
        self._exchange.settle()
        self._phase = _Phase.CLOSED
        self.expires_at = self._reauthenticate_at = self._silent_at = None
        self._events.append(event)


def _offers_ours(message: Message) -> bool:
    return all((code, value) in message.avps for code, value in _ALGORITHMS)
