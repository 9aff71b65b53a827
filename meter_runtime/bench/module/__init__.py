"""A virtual Wi-SUN module: the device side of the SKSTACK-IP command set, in either role.

``core`` is the module, sans-I/O; ``commands`` its command table, ``registers``, ``state``,
``scan``, ``sending``, ``session`` and ``join`` the parts it is made of; ``profiles`` the products
it can be; ``port`` the shell that puts one behind a byte port.
"""
