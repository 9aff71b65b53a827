"""What the optional unit does for the meter: switching the supply, and watching its voltage.

Metering never waits for it, and the home is told nothing of it.
"""
