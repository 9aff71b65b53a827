"""What runs inside the guests: as the only program of a machine, as root, with its clock."""
