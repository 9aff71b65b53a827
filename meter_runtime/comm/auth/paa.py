"""The meter's end of PANA: the authentication agent (RFC 5191, section 4).

One session with one client. The owner hands in datagrams and the time, sends what
:meth:`PaaSession.take_output` gives, and follows :meth:`PaaSession.take_events`.

The PCI never comes here: it carries no proof, so what one means is the owner's business. While
the first request is unanswered it is a repetition, and this session's own repetitions serve it.
Later it is a client that begins anew: it gets a session of its own, and the one that is open ends
only when the new one has been authenticated, or anybody could end it.

Kept narrower than the RFC, as on the B-route: one algorithm of each kind, EAP responses only
within answers, and re-authentication only on the client's wish. One that fails ends the session;
one that the client lets fall silent leaves it open with its old key, unless the new one may be in
use already.
"""

import enum
import random

from meter_runtime.comm.auth import eap_psk
from meter_runtime.comm.auth.eap_psk import EapPskServer
from meter_runtime.comm.auth.pana_events import (
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
    u32,
)

NONCE_BYTES = 16
_NO_FLAGS = Flag(0)
_ALGORITHMS = (
    (int(Avp.PRF_ALGORITHM), u32(PRF_HMAC_SHA2_256)),
    (int(Avp.INTEGRITY_ALGORITHM), u32(AUTH_HMAC_SHA2_256_128)),
)


class _Phase(enum.Enum):
    STARTING = enum.auto()
    EAP = enum.auto()
    COMPLETING = enum.auto()
    REJECTING = enum.auto()
    OPEN = enum.auto()
    TERMINATING = enum.auto()
    CLOSED = enum.auto()


class PaaSession:
    """Created on a client's PCI; the first request goes out at once.

    With ``peer_id`` only a client of that identity is admitted, else any that holds the key.
    ``rng`` makes nonces: ``random.SystemRandom()`` wherever the session protects anything.
    A session that is over still answers repeated requests: keep it until the next begins.
    """

    def __init__(
        self,
        psk: bytes,
        server_id: bytes,
        lifetime_s: int,
        rng: random.Random,
        now: float,
        *,
        peer_id: bytes | None = None,
    ) -> None:
        self.psk = psk
        """What the next authentication is proved with."""
        self._server_id, self._peer_id, self._rng = server_id, peer_id, rng
        self._exchange = Exchange(rng, session_id=rng.getrandbits(31) + 1)
        self._events: list[SessionEvent] = []
        self._phase = _Phase.STARTING
        self._key_id = 0
        self._i_pan = b""
        self._pac_nonce: bytes | None = None
        self._pending_key: bytes | None = None
        self.lifetime_s = lifetime_s
        self.expires_at: float | None = None
        self._i_par = self._exchange.request(Flag.START, Type.AUTHENTICATION, _ALGORITHMS, now)
        self._begin_eap()

    @property
    def session_id(self) -> int:
        return self._exchange.session_id

    @property
    def key(self) -> bytes | None:
        """PANA_AUTH_KEY in force."""
        return self._exchange.key

    @property
    def is_open(self) -> bool:
        """A client is authenticated, its time has not run out, and nothing has failed since."""
        return self.expires_at is not None and self._phase is not _Phase.CLOSED

    @property
    def is_over(self) -> bool:
        return self._phase is _Phase.CLOSED

    def receive(self, data: bytes, now: float) -> None:
        """Take one datagram of the client."""
        message = self._exchange.take(data, lambda _: self._pending_key or self.key)
        if message is None:
            return
        match message.type, message.is_request:
            case Type.AUTHENTICATION, False:
                self._authentication_answer(message, data, now)
            case Type.NOTIFICATION, True if self.is_open and self._phase is not _Phase.TERMINATING:
                self._exchange.answer(message, ())
                if message.flags & Flag.REAUTHENTICATION:
                    self._begin_eap()
                    self._ask_eap(now)
            case Type.TERMINATION, True if self.is_open:
                self._exchange.answer(message, ())
                self._close(Terminated(by_peer=True))
            case Type.TERMINATION, False:
                self._close(Terminated(by_peer=False))

    def terminate(self, now: float) -> None:
        """End the session from this side (TERMINATION_CAUSE 4: administrative).

        A session that is not open ends at once: only what a key protects can be said.
        """
        if self._phase in (_Phase.TERMINATING, _Phase.CLOSED):
            return
        if not self.is_open:
            self._close(Terminated(by_peer=False, answered=False))
            return
        self._phase = _Phase.TERMINATING
        cause = ((int(Avp.TERMINATION_CAUSE), u32(4)),)
        self._exchange.request(_NO_FLAGS, Type.TERMINATION, cause, now)

    def tick(self, now: float) -> None:
        """Repeat what is unanswered; end what has run out."""
        if self._phase is _Phase.CLOSED:
            return
        if self.expires_at is not None and now >= self.expires_at:
            self._close(Expired())
        elif self._exchange.tick(now):
            if self._phase is _Phase.TERMINATING:
                self._close(Terminated(by_peer=False, answered=False))
            elif self._phase is _Phase.REJECTING:
                self._close(Rejected())
            elif self._phase is _Phase.EAP and self.is_open:
                self._phase = _Phase.OPEN
            else:
                # Also where the end of a re-authentication stayed unanswered: the client may
                # hold the new key or the old.
                self._close(NoAnswer())

    def next_deadline(self) -> float | None:
        if self._phase is _Phase.CLOSED:
            return None
        deadlines = [d for d in (self._exchange.deadline, self.expires_at) if d is not None]
        return min(deadlines, default=None)

    def take_output(self) -> list[bytes]:
        return self._exchange.take_output()

    def take_events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events

    def _begin_eap(self) -> None:
        identifier = self._rng.getrandbits(8)
        self._eap = EapPskServer(
            self.psk,
            self._server_id,
            self._rng.randbytes,
            identifier,
            expected_peer=self._peer_id,
        )
        self._paa_nonce = self._rng.randbytes(NONCE_BYTES)
        self._pac_nonce = self._pending_key = None

    def _ask_eap(self, now: float) -> None:
        self._phase = _Phase.EAP
        avps = ((int(Avp.NONCE), self._paa_nonce), (int(Avp.EAP_PAYLOAD), self._eap.start()))
        self._exchange.request(_NO_FLAGS, Type.AUTHENTICATION, avps, now)

    def _authentication_answer(self, message: Message, data: bytes, now: float) -> None:
        match self._phase:
            case _Phase.STARTING:
                self._i_pan = data
                self._ask_eap(now)
            case _Phase.EAP:
                self._eap_answer(message, now)
            case _Phase.COMPLETING:
                again = self.is_open
                self._exchange.key, self._pending_key = self._pending_key, None
                self._phase = _Phase.OPEN
                self.expires_at = now + self.lifetime_s
                self._events.append(Authenticated(self.lifetime_s, again))
            case _Phase.REJECTING:
                self._close(Rejected())
            case _:
                pass

    def _eap_answer(self, message: Message, now: float) -> None:
        if self._pac_nonce is None:
            self._pac_nonce = message.nonce
        next_packet = self._eap.receive(message.get(Avp.EAP_PAYLOAD) or b"")
        if next_packet is None or self._pac_nonce is None:
            self._reject(self._eap.fail(), now)
        elif self._eap.state is eap_psk.State.RUNNING:
            avps = ((int(Avp.EAP_PAYLOAD), next_packet),)
            self._exchange.request(_NO_FLAGS, Type.AUTHENTICATION, avps, now)
        elif self._eap.keys is None:
            self._reject(next_packet, now)
        else:
            self._complete(next_packet, self._eap.keys.msk, self._pac_nonce, now)

    def _complete(self, eap_success: bytes, msk: bytes, pac_nonce: bytes, now: float) -> None:
        self._phase = _Phase.COMPLETING
        self._key_id += 1
        key_id = u32(self._key_id)
        self._pending_key = auth_key(
            msk,
            i_par=self._i_par,
            i_pan=self._i_pan,
            pac_nonce=pac_nonce,
            paa_nonce=self._paa_nonce,
            key_id=key_id,
        )
        avps = (
            (int(Avp.RESULT_CODE), u32(ResultCode.SUCCESS)),
            (int(Avp.EAP_PAYLOAD), eap_success),
            (int(Avp.KEY_ID), key_id),
            (int(Avp.SESSION_LIFETIME), u32(self.lifetime_s)),
        )
        old_key, self._exchange.key = self._exchange.key, self._pending_key
        self._exchange.request(Flag.COMPLETE, Type.AUTHENTICATION, avps, now)
        self._exchange.key = old_key

    def _reject(self, eap_failure: bytes, now: float) -> None:
        self._phase = _Phase.REJECTING
        self.expires_at = None
        avps = (
            (int(Avp.RESULT_CODE), u32(ResultCode.AUTHENTICATION_REJECTED)),
            (int(Avp.EAP_PAYLOAD), eap_failure),
        )
        self._exchange.request(Flag.COMPLETE, Type.AUTHENTICATION, avps, now)

    def _close(self, event: SessionEvent) -> None:
        self._exchange.settle()
        self._phase = _Phase.CLOSED
        self.expires_at = None
        self._events.append(event)
