"""G3-PLC modems over UART: the USI serial protocol with the ADP and LBP services.

``usi`` is the frame, ``messages`` what is in it, both of either direction, so that the driver and
the bench's virtual modem cannot disagree about an octet; ``ipv6`` is the packet that the modem
carries. On the meter's side ``scripts`` says what is asked of a modem, ``dialogue`` how a question
and its answer go, ``session`` who is joined; ``driver`` is the whole of it without input and
output, and ``unit`` joins it to a port.
"""
