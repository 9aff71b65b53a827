"""Why the broker cannot be spoken with: one line for a person, with what to do about it.

Reason codes are those of MQTT 5 (OASIS, 2.4); the client library translates the return codes of
3.1.1 into them. OpenSSL names its errors and the alerts of the other side by ``reason``.
"""

import socket
import ssl

from meter_runtime.comm.mqtt.settings import MqttSettings

FAILURE = 0x80
"""The lowest code of a failure."""
UNSUPPORTED_VERSION = 0x84
KEEP_ALIVE = 0x8D

_CODES = {
    0x80: "refuses us and says no more",
    0x82: "says that we break the protocol",
    UNSUPPORTED_VERSION: "does not speak this version of MQTT",
    0x85: 'does not accept the client identifier "{client}"',
    0x86: "does not accept user name and password",
    0x87: 'does not allow this to the client "{client}": look at its access rules',
    0x88: "is not available; it will be tried again",
    0x89: "is busy; it will be tried again",
    0x8A: 'has banned the client "{client}"',
    0x8B: "is shutting down",
    0x8C: "wants another way of authentication",
    KEEP_ALIVE: "heard nothing from us for too long",
    0x8E: 'serves another client by the name "{client}" now: each needs a name of its own',
    0x93: "got more messages at once than it accepts",
    0x95: "got a message that is too large for it",
    0x97: "has no room left for us",
    0x98: "was told by its keeper to end the connection",
    0x9F: "accepts no more connections at this rate",
}

# Alerts by which the broker refuses what we show it.
_ALERTS = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "says that the certificate {certificate} has expired: "
    "have a new one issued",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "says that the certificate {certificate} was revoked: "
    "have a new one issued",
    "TLSV1_ALERT_UNKNOWN_CA": "does not know who issued the certificate {certificate}: "
    "have one issued by its CA",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "wants a client certificate and was shown none",
    "WRONG_VERSION_NUMBER": "does not speak TLS on this port: use mqtt://, or another port",
}

# X.509 verification errors as OpenSSL numbers them (x509_vfy.h).
_EXPIRED, _NOT_YET = 10, 9
_UNKNOWN_ISSUERS = {2, 18, 19, 20, 21}
_WRONG_NAMES = {62, 64}


def of_code(settings: MqttSettings, code: int) -> str:
    """The broker's word, by its reason code."""
    said = _CODES.get(code, f"refuses us with reason code 0x{code:02X}")
    return f"{settings.broker} {said.format(client=settings.client_id)}"


def of_failure(settings: MqttSettings, failure: BaseException | None) -> str:
    """What the network, or TLS, did."""
    return f"{settings.broker} {_said(settings, failure)}"


def of_silence(settings: MqttSettings) -> str:
    """The connection was closed before the broker said anything."""
    hint = "" if settings.tls else "; does this port speak TLS only?"
    return f"{settings.broker} closes the connection without a word{hint}"


def _said(settings: MqttSettings, failure: BaseException | None) -> str:
    match failure:
        case ssl.SSLCertVerificationError():
            return _unverified(settings, failure)
        case ssl.SSLError():
            alert = _ALERTS.get(failure.reason or "")
            if alert is not None and settings.tls is not None:
                return alert.format(certificate=settings.tls.certificate)
            return f"cannot be joined by TLS: {failure.reason or 'the connection broke off'}"
        case socket.gaierror():
            return "cannot be found: the name is wrong, or there is no name service"
        case ConnectionRefusedError():
            return "refuses connections: is the broker running, and is this its port?"
        case ConnectionResetError():
            other = "TLS" if settings.tls else "MQTT without TLS"
            return f"breaks the connection off at once: does this port speak {other}?"
        case TimeoutError():
            return "does not answer: is it up, and does a firewall stand between?"
        case OSError():
            return f"cannot be reached: {failure.strerror or type(failure).__name__}"
        case _:
            return "is lost: the connection broke off"


def _unverified(settings: MqttSettings, failure: ssl.SSLCertVerificationError) -> str:
    ca = settings.tls.ca if settings.tls else "the CA"
    code = failure.verify_code
    if code == _EXPIRED:
        return "shows a certificate that has expired: it needs a new one; or is our clock wrong?"
    if code == _NOT_YET:
        return "shows a certificate that is not valid yet: is our clock right?"
    if code in _UNKNOWN_ISSUERS:
        return f"shows a certificate that {ca} did not issue: is this the right CA, and broker?"
    if code in _WRONG_NAMES:
        return "shows a certificate for another name: write the host as the certificate has it"
    return f"shows a certificate that is not accepted: {failure.verify_message}"
