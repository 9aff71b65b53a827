"""Metering units with one or two MCP39F521, the two-way meter chip of Microchip on I²C."""

from meter_runtime.units.metering.mcp39f521.unit import DRIVER

__all__ = ["DRIVER"]
