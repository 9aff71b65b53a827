"""Drivers of optional units: switching or voltage."""
