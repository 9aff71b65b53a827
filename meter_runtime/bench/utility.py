"""The utility as a bench has it: a broker, a laboratory's keys, and the meter enrolled there.

Where nothing is named both are throw-away: an embedded broker, and keys in the bench's own folder,
which go with it. A kept laboratory (``--lab``) brings its own broker, and its processes reach this
meter as any other.
"""

from contextlib import AsyncExitStack
from pathlib import Path

from meter_runtime.aroute.identity import MeterIdentity, PublicKeys
from meter_runtime.bench.broker import EmbeddedBroker
from meter_runtime.bench.options import BenchOptions
from meter_runtime.comm.mqtt import parse_url
from meter_runtime.comm.mqtt.settings import Protocol
from meter_runtime.config import ARoute, Local
from meter_runtime.errors import UsageError
from meter_runtime.headend.lab import Lab, Login, MeterFolder

JITTER_S = 1.0
"""On a bench a reader waits for the readings."""


class BenchUtility:
    """Broker and keys of one bench; ``lab`` and ``aroute`` are there once it is open."""

    lab: Lab
    local: Local
    aroute: ARoute
    """The section of the meter's configuration."""
    host: str
    port: int

    def __init__(self, options: BenchOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder

    async def open(self, stack: AsyncExitStack, meter_id: str, device_key: bytes) -> None:
        """Start what is not named, and enroll the meter; what is started ends with ``stack``.

        Raises UsageError where ``meter_id`` is enrolled in the laboratory with other keys.
        """
        url, login = self._options.mqtt, None
        protocol: Protocol = "auto"
        if self._options.lab is not None:
            self.lab = Lab.open(self._options.lab)
            url = url or self.lab.broker_url
        elif url is not None:
            host, port, tls = parse_url(url)
            if tls:
                raise UsageError("--mqtt: a broker with TLS knows a laboratory; give --lab, too")
            self.lab = Lab.create(self._folder, broker_host=host, broker_port=port)
        else:
            broker = await stack.enter_async_context(EmbeddedBroker())
            url, login = broker.url, Login(broker.username, broker.password)
            protocol = broker.protocol
            self.lab = Lab.create(
                self._folder, broker_host=broker.host, broker_port=broker.port, login=login
            )
        self.host, self.port, tls = parse_url(url)
        keys = MeterIdentity.from_device_key(device_key).public
        meter = _enrolled(self.lab, meter_id, keys)
        self.aroute = ARoute(
            url=url,
            ca=meter.tls.ca if tls else None,
            certificate=meter.tls.certificate if tls else None,
            key=meter.tls.key if tls else None,
            username=None if login is None else login.username,
            password=None if login is None else login.password,
            protocol=protocol,
            trust=meter.trust,
            jitter_s=JITTER_S,
        )
        self.local = Local(
            listen=self._options.local,
            presence="always" if self._options.presence else "button",
            ca=meter.tls.ca,
            certificate=meter.tls.certificate,
            key=meter.tls.key,
        )


def _enrolled(lab: Lab, meter_id: str, keys: PublicKeys) -> MeterFolder:
    if meter_id not in lab.meters():
        return lab.enroll(meter_id, keys)
    if lab.meter_keys(meter_id) != keys:
        raise UsageError(
            f'{lab.path}: "{meter_id}" is enrolled with other keys; give the bench another --seed'
        )
    return lab.meter(meter_id)
