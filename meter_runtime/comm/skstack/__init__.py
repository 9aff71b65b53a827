"""Wi-SUN modules over UART: the SKSTACK-IP command set, spoken from both ends.

``dialects`` holds what differs between firmware families as data; ``commands`` and ``replies``
turn the lines of either direction into values and back, so that the driver and the bench's
virtual module cannot disagree about a byte. On the meter's side ``scripts`` says what is asked of
a module, ``dialogue`` how a command and its answer go, ``session`` who is joined, ``outbox`` what
waits to be sent; ``driver`` is the whole of it without input and output, and ``unit`` joins it to
a port.
"""
