"""The utility's side, for a laboratory: small, but real processes, files and keys."""
