"""Joining the B-route: EAP-PSK (RFC 4764) carried by PANA (RFC 5191), both ends, sans-I/O."""
