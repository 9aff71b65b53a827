"""The bearer of the A-route: MQTT to the utility's broker, for the meter and for the head-end.

It carries bytes under topics and knows nothing of what they mean. MQTT 5 (OASIS) first, 3.1.1
where the broker speaks nothing newer; QoS 1 both ways, over TLS with client certificates.
``settings`` says where and as whom, ``link`` is one connection, ``reasons`` puts its failures
into words, ``inbox`` holds what came and nobody has taken yet, and ``bearer`` keeps it all up.
"""

from meter_runtime.comm.mqtt.bearer import MqttBearer
from meter_runtime.comm.mqtt.inbox import Received
from meter_runtime.comm.mqtt.link import Will
from meter_runtime.comm.mqtt.settings import MqttSettings, TlsFiles, parse_url

__all__ = ["MqttBearer", "MqttSettings", "Received", "TlsFiles", "Will", "parse_url"]
