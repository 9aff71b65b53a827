"""A Raspberry Pi as a Japanese unit-type smart meter, and the laboratory around it."""

__version__ = "0.1.0"
