"""Wi-SUN modules over UART: the SKSTACK-IP command set, spoken from both ends.

``dialects`` holds what differs between firmware families as data; ``commands`` and ``replies``
turn the lines of either direction into values and back, so that the driver and the bench's
virtual module cannot disagree about a byte; ``driver`` is the meter's side of the conversation
and ``unit`` joins it to a port.
"""
