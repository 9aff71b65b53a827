"""Where the broker is and as whom it is approached; the check of the files that this names."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from meter_runtime.errors import UsageError
from meter_runtime.secret import Secret

PORT = 1883
TLS_PORT = 8883
WEEK_S = 7 * 86_400

Protocol = Literal["auto", "5", "3.1.1"]


def parse_url(text: str) -> tuple[str, int, bool]:
    """Host, port and whether TLS is spoken: ``mqtt://host[:1883]`` or ``mqtts://host[:8883]``.

    Raises :class:`UsageError` for anything else; a user name or a password does not belong here.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        raise UsageError(f"the broker's address is no URL: {wrong}") from None
    if parts.username is not None or parts.password is not None:
        # The text is not quoted: there is a password in it.
        raise UsageError("the broker's URL carries a user name; give that apart from the URL")
    if parts.scheme not in {"mqtt", "mqtts"} or not host:
        raise UsageError(f'"{text}" is no broker; write mqtt://HOST[:PORT] or mqtts://HOST[:PORT]')
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise UsageError(f'"{text}": nothing may follow the port of a broker')
    if port == 0:
        raise UsageError(f'"{text}": port 0 is no port; write 1 to 65535')
    tls = parts.scheme == "mqtts"
    return host, port or (TLS_PORT if tls else PORT), tls


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: whom the broker's certificate must come from, and what we show it."""

    ca: Path
    certificate: Path
    key: Path

    def check(self, now: float | None = None) -> None:
        """Raise :class:`UsageError` for a file that is missing, wrong or, at ``now``, not valid.

        ``now`` is in UTC seconds; None, where no clock can be trusted, leaves the dates alone.
        """
        from cryptography import x509

        _read(self.ca, "CA certificate")
        shown = _read(self.certificate, "client certificate")
        _read(self.key, "private key")
        self.context()
        if now is None:
            return
        certificate = x509.load_pem_x509_certificate(shown)
        instant = datetime.fromtimestamp(now, UTC)
        if instant > certificate.not_valid_after_utc:
            raise UsageError(
                f"{self.certificate}: the certificate expired on "
                f"{certificate.not_valid_after_utc:%Y-%m-%d}; have a new one issued"
            )
        if instant < certificate.not_valid_before_utc:
            raise UsageError(
                f"{self.certificate}: the certificate is not valid before "
                f"{certificate.not_valid_before_utc:%Y-%m-%d}; is the clock right?"
            )

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, the broker's name checked; :class:`UsageError` names a bad file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cafile=self.ca)
        except (OSError, ValueError):
            _read(self.ca, "CA certificate")
            raise UsageError(f"{self.ca}: this is no CA certificate in PEM form") from None
        try:
            # A key with a pass phrase must fail, not ask for it on the terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as wrong:
            _read(self.certificate, "client certificate")
            _read(self.key, "private key")
            if getattr(wrong, "reason", None) == "KEY_VALUES_MISMATCH":
                raise UsageError(
                    f"{self.key}: this key does not belong to {self.certificate}"
                ) from None
            raise UsageError(
                f"{self.certificate}, {self.key}: not a certificate and its key in PEM form, "
                "without a pass phrase"
            ) from None
        return context


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """One client of one broker. ``client_id`` names the session that the broker keeps for it.

    ``session_expiry_s``: how long the broker keeps queueing while we are away (MQTT 5; with
    3.1.1 the broker decides); 0: not at all.
    """

    host: str
    port: int
    client_id: str
    tls: TlsFiles | None = None
    username: str | None = None
    password: Secret | None = None
    protocol: Protocol = "auto"
    keepalive_s: int = 60
    session_expiry_s: int = WEEK_S

    def __post_init__(self) -> None:
        if not self.client_id:
            raise UsageError("an MQTT client needs an identifier; an empty one keeps no session")
        if not 1 <= self.port <= 65_535:
            raise UsageError(f"port {self.port} is no port; write 1 to 65535")
        if not 1 <= self.keepalive_s <= 65_535:
            raise UsageError(f"keep-alive {self.keepalive_s} s; write 1 to 65535")

    @property
    def broker(self) -> str:
        """The broker, for a person."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def check(self, now: float | None = None) -> None:
        """Raise :class:`UsageError` for what can be known to be wrong without the network."""
        if self.tls is not None:
            self.tls.check(now)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise UsageError(
            f"{path}: the {what} cannot be read ({failure.strerror}); put it there, or name another"
        ) from None
