"""The legally relevant core: samples to registers to half-hour snapshots.

The only writer of registers and load profile. Small and apart, with its own version.
"""
