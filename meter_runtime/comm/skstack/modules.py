"""Products that carry the firmware, by the name a configuration uses, and what each speaks.

The name is a convenience: a module tells its dialect itself, and one that contradicts the name in
the configuration is reported instead of being driven wrongly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from meter_runtime.comm.skstack.dialects import DSE, SE, Dialect


@dataclass(frozen=True, slots=True)
class Product:
    """One product as its maker sells it."""

    model: str
    maker: str
    dialect: Dialect | None
    """None where only the module itself can tell."""


PRODUCTS: Mapping[str, Product] = {
    "bp35a1": Product("BP35A1", "ROHM", SE),
    "wsr35a1": Product("WSR35A1-00", "ROHM", SE),
    "rl7023-ips": Product("RL7023 Stick-D/IPS", "TESSERA TECHNOLOGY", SE),
    "bp35c2": Product("BP35C2", "ROHM", DSE),
    "rs-wsuha-p": Product("RS-WSUHA-P", "RATOC Systems", DSE),
    "rl7023-dss": Product("RL7023 Stick-D/DSS", "TESSERA TECHNOLOGY", DSE),
}
