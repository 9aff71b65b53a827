"""What a collector lets in: the messages that a meter can have meant, and no others.

The broker's access list sees to it that a meter speaks under its own id only; that what it says is
about itself, whole and possible, is checked here.
"""

from meter_runtime.aroute.messages import Event, Reading, Readings, Topics, decode, meter_of
from meter_runtime.aroute.uplink_memory import MAX_SEQUENCE, SEQUENCE_BLOCK
from meter_runtime.clock import slot_at
from meter_runtime.comm.mqtt import Received
from meter_runtime.errors import MeterError
from meter_runtime.headend.readings_store import StoredEvent

MAX_NAME = 64
"""Characters of a meter's id, of a unit's serial and of an event's kind."""
LAST_SLOT = slot_at(253_402_300_799)
"""The last half-hour of the year 9999: later ones have no date."""
HIGHEST_SEQUENCE = MAX_SEQUENCE - SEQUENCE_BLOCK
"""A mark with a higher one would be of no use to the meter, and would stand for ever."""


def read(received: Received, utility: str) -> Readings | StoredEvent:
    """What is to be stored of a message; raises MeterError, whose text says what is wrong."""
    try:
        meter_id = meter_of(received.topic)
        topics = Topics(utility, meter_id)
    except MeterError:
        # Not in its words: they quote the topic.
        raise MeterError("it came on a topic that is none of a meter's") from None
    if received.topic == topics.event:
        return _event(meter_id, received.payload)
    if received.topic not in (topics.readings, topics.history):
        raise MeterError("it came on a topic that is not collected")
    readings = decode(received.payload, Readings)
    _check_author(meter_id, readings.meter_id)
    _check_readings(readings)
    if (readings.request is None) != (received.topic == topics.readings):
        raise MeterError("an answer to a request belongs on reading/history, and nothing else does")
    return readings


def _event(meter_id: str, payload: bytes) -> StoredEvent:
    event = decode(payload, Event)
    _check_author(meter_id, event.meter_id)
    _check_name("kind", event.kind)
    return meter_id, event.at, event.number, event.kind, payload.decode()


def _check_author(topic: str, told: str) -> None:
    if told != topic:
        raise MeterError("it says that another meter wrote it")
    _check_name("meter_id", told)


def _check_name(key: str, name: str) -> None:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise MeterError(f"{key} is not 1 to {MAX_NAME} printable characters")


def _check_readings(readings: Readings) -> None:
    _check_name("unit", readings.unit)
    if not readings.after < readings.upto <= LAST_SLOT:
        raise MeterError(f"no half-hours are after {readings.after} and up to {readings.upto}")
    if readings.sequence > HIGHEST_SEQUENCE:
        raise MeterError(f"sequence {readings.sequence} leaves none to follow it")
    before = readings.after
    for reading in readings.readings:
        _check_reading(reading, before, readings.upto)
        before = reading.slot


def _check_reading(reading: Reading, before: int, upto: int) -> None:
    if not before < reading.slot <= upto:
        raise MeterError(f"half-hour {reading.slot} is out of order, or not in the message's range")
