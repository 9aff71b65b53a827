"""The two ways to the Relay Server: the business side's and the control side's.

Each call is one HTTPS exchange with mutual TLS and a bound on its time. Whether and when to try
again is the caller's business: every call may be repeated without harm. A failure is a
:class:`~meter_runtime.errors.MeterError` that names the relay's address.
"""

import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from meter_runtime.comm.mqtt import TlsFiles
from meter_runtime.errors import MeterError
from meter_runtime.headend.lab import NEW_SYSTEM, SCS, Lab, RelayAddress
from meter_runtime.headend.relay_spool import MAX_BYTES, MAX_FETCH, Request

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_S = 10.0
_MAX_LIST_BYTES = MAX_FETCH * (MAX_BYTES * 4 // 3 + 512)


class RelayRefusedError(MeterError):
    """The relay has answered, and with an error; ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class BusinessSide:
    """The New System's way: put requests, ask for results."""

    def __init__(self, address: RelayAddress, tls: TlsFiles) -> None:
        self._exchange = _Exchange(address.host, address.business_port, tls)

    @classmethod
    def of(cls, lab: Lab) -> "BusinessSide":
        return cls(lab.relay, lab.tls(NEW_SYSTEM))

    async def put(self, request_id: str, envelope: bytes, *, meter_id: str, expiry: int) -> None:
        """Leave a sealed command there; ``expiry`` in UTC seconds. It is durable on return."""
        query = {"meter": meter_id, "expiry": str(expiry)}
        await self._exchange("PUT", f"/v1/requests/{request_id}", envelope, query)

    async def result(self, request_id: str) -> bytes | None:
        """The meter's signed result, or None while there is none.

        Raises :class:`RelayRefusedError` with status 404 for a request that was never put, or was
        forgotten.
        """
        return await self._exchange("GET", f"/v1/requests/{request_id}/result") or None


class ControlSide:
    """The Supervisory Control System's way: fetch requests, answer them."""

    def __init__(self, address: RelayAddress, tls: TlsFiles) -> None:
        self._exchange = _Exchange(address.host, address.control_port, tls)

    @classmethod
    def of(cls, lab: Lab) -> "ControlSide":
        return cls(lab.relay, lab.tls(SCS))

    async def fetch(self, limit: int = MAX_FETCH) -> list[Request]:
        """Requests that nobody else holds. One that is not answered comes again later."""
        body = await self._exchange("POST", "/v1/fetch", query={"limit": str(limit)})
        try:
            return msgspec.json.decode(body, type=list[Request])
        except msgspec.MsgspecError:
            raise MeterError(f"{self._exchange.address}: not a relay's answer") from None

    async def answer(self, request_id: str, result: bytes) -> None:
        """Give the result back; :class:`RelayRefusedError` 409 when it has another one already."""
        await self._exchange("POST", f"/v1/requests/{request_id}/answer", result)


class _Exchange:
    """One request and its answer, over a connection of its own."""

    def __init__(self, host: str, port: int, tls: TlsFiles) -> None:
        self._tls = tls
        self.address = f"https://{f'[{host}]' if ':' in host else host}:{port}"

    async def __call__(
        self, method: str, path: str, body: bytes = b"", query: dict[str, str] | None = None
    ) -> bytes:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=self._tls.context())
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, self.address + path, data=body, params=query) as reply,
            ):
                if not reply.ok:
                    raise RelayRefusedError(f"{self.address}: {await _reason(reply)}", reply.status)
                return await _bounded(reply, self.address)
        except TimeoutError:
            raise MeterError(f"{self.address}: no answer within {TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as failure:
            raise MeterError(f"{self.address}: {_why(failure)}") from None


async def _bounded(reply: "aiohttp.ClientResponse", address: str) -> bytes:
    body = await reply.content.read(_MAX_LIST_BYTES + 1)
    rest = body
    while rest and len(body) <= _MAX_LIST_BYTES:
        rest = await reply.content.read(_MAX_LIST_BYTES)
        body += rest
    if len(body) > _MAX_LIST_BYTES:
        raise MeterError(f"{address}: the answer is too long for a relay")
    return body


async def _reason(reply: "aiohttp.ClientResponse") -> str:
    """What the relay says of its refusal, in a line of bounded length."""
    text = await reply.content.read(1024)
    try:
        return f"{msgspec.json.decode(text, type=dict[str, str])['error']} ({reply.status})"
    except (msgspec.MsgspecError, KeyError):
        return f"{reply.status} {HTTPStatus(reply.status).phrase}"


def _why(failure: Exception) -> str:
    """The failure of a connection, with what to do."""
    import aiohttp

    match failure:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return "its certificate is not of this laboratory; look at ca.pem and the host's name"
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return "TLS failed; is this role's certificate of the relay's laboratory?"
        case aiohttp.ClientConnectorError():
            return "cannot be reached; is the relay running? 'meter-runtime headend relay --lab'"
        case _:
            return f"the connection broke: {failure.__class__.__name__}"
