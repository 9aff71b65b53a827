"""The virtual board: chips modelled at their registers, on buses that can fail."""
