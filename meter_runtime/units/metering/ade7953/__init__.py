"""Metering units with one ADE7953, the two-channel meter chip of Analog Devices on I²C."""

from meter_runtime.units.metering.ade7953.chip import ADDRESS
from meter_runtime.units.metering.ade7953.unit import DRIVER

__all__ = ["ADDRESS", "DRIVER"]
