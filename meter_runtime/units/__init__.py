"""Plug-in units: what each kind is, and how its driver is found."""
