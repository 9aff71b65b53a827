"""The Relay Server between business side and control side: each side comes to it, it goes to none.

Two listeners in one process, HTTPS with mutual TLS. The business port takes requests and gives
results, and only to certificates with the organisational unit *business*; the control port gives
requests and takes results, only with *control*::

    business  PUT  /v1/requests/ID?meter=METER&expiry=S   envelope -> 204
              GET  /v1/requests/ID/result                 -> 200 result | 204 none yet
    control   POST /v1/fetch?limit=N                      -> 200 JSON list of requests
              POST /v1/requests/ID/answer                 result -> 204

Bodies are bytes, envelopes inside JSON are base64, an error is ``{"error": "..."}``. There is no
way through it for anything else: whoever breaks into the business side finds no connection that
leads to a meter.
"""

import asyncio
import logging
import sqlite3
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from meter_runtime.aroute import envelope
from meter_runtime.errors import MeterError
from meter_runtime.headend.certificates import Unit
from meter_runtime.headend.lab import RELAY, Lab, bind_host
from meter_runtime.headend.relay_spool import MAX_BYTES, MAX_FETCH, RefusedError, Request, Spool

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler

    from meter_runtime.comm.mqtt import TlsFiles

log = logging.getLogger(__name__)

_BODY_S = 10.0
"""A request that is not all there by then is dropped."""


@asynccontextmanager
async def serve(lab: Lab, spool: Spool) -> AsyncIterator[None]:
    """Both listeners, until the block ends."""
    from aiohttp import web

    context = server_context(lab.tls(RELAY))
    address = lab.relay
    runners: list[web.AppRunner] = []
    try:
        for application, port in (
            (_business(spool), address.business_port),
            (_control(spool), address.control_port),
        ):
            runner = web.AppRunner(application, access_log=None, handle_signals=False)
            runners.append(runner)
            await runner.setup()
            site = web.TCPSite(runner, bind_host(address.host), port, ssl_context=context)
            try:
                await site.start()
            except OSError as failure:
                raise MeterError(
                    f"the relay cannot listen on port {port}: {failure.strerror};"
                    " stop what does, or change lab.toml"
                ) from None
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


def server_context(tls: "TlsFiles") -> ssl.SSLContext:
    """TLS 1.3, and nobody without a certificate of the laboratory's authority."""
    tls.check(time.time())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def _business(spool: Spool) -> "web.Application":
    from aiohttp import web

    async def put(request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        meter_id = request.query.get("meter", "")
        expiry = _number(request, "expiry")
        told = _routing(body)
        if (told.meter_id, told.expiry) != (meter_id, expiry):
            raise RefusedError(400, "the envelope is for another meter or expiry")
        spool.put(Request(request.match_info["id"], meter_id, expiry, body), time.time())
        return web.Response(status=204)

    async def result(request: web.Request) -> web.StreamResponse:
        found = spool.result(request.match_info["id"])
        return web.Response(status=204) if found is None else web.Response(body=found)

    application = _application(Unit.BUSINESS)
    application.router.add_put("/v1/requests/{id}", put)
    application.router.add_get("/v1/requests/{id}/result", result)
    return application


def _control(spool: Spool) -> "web.Application":
    from aiohttp import web

    async def fetch(request: web.Request) -> web.StreamResponse:
        limit = _number(request, "limit", default=MAX_FETCH)
        found = spool.fetch(limit, time.time())
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def answer(request: web.Request) -> web.StreamResponse:
        spool.answer(request.match_info["id"], await _body(request), time.time())
        return web.Response(status=204)

    application = _application(Unit.CONTROL)
    application.router.add_post("/v1/fetch", fetch)
    application.router.add_post("/v1/requests/{id}/answer", answer)
    return application


def _application(unit: Unit) -> "web.Application":
    """An application for one side, with one-line JSON for everything that fails."""
    from aiohttp import web

    @web.middleware
    async def guard(request: web.Request, handler: "Handler") -> web.StreamResponse:
        try:
            if _unit(request) != unit.value:
                raise RefusedError(403, f"this port is for the {unit} side")
            return await handler(request)
        except RefusedError as refused:
            status, message = refused.status, str(refused)
        except web.HTTPException as refused:
            status, message = refused.status, refused.reason
        except (MeterError, sqlite3.Error) as failure:
            log.error("the spool failed: %s", failure)
            status, message = 507, "the spool cannot be written or read; come again later"
        log.info("%s %s: %d %s", request.method, request.path, status, message)
        return web.json_response({"error": message}, status=status)

    return web.Application(middlewares=[guard], client_max_size=MAX_BYTES)


def _unit(request: "web.Request") -> str | None:
    """The organisational unit of the client's certificate."""
    transport = request.transport
    certificate = None if transport is None else transport.get_extra_info("peercert")
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "organizationalUnitName":
                return str(value)
    return None


async def _body(request: "web.Request") -> bytes:
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except TimeoutError:
        raise RefusedError(408, "the request was too slow") from None


def _routing(body: bytes) -> envelope.Routing:
    try:
        return envelope.routing(body)
    except MeterError:
        raise RefusedError(400, "the body is no envelope") from None


def _number(request: "web.Request", name: str, default: int | None = None) -> int:
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise RefusedError(400, f"{name} is not a whole number")
    return int(text)
