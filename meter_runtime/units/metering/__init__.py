"""Drivers of metering units, one file each."""
