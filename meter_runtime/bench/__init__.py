"""The virtual laboratory: modules, air, household and time that stand in for the real ones.

It imports every other room; none imports it. Its two names are imported when they are asked for:
the pytest plugin lives in this package and is loaded by test runs that need no laboratory.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench
    from meter_runtime.bench.options import BenchOptions

__all__ = ["Bench", "BenchOptions"]


def __getattr__(name: str) -> Any:
    match name:
        case "Bench":
            from meter_runtime.bench.laboratory import Bench

            return Bench
        case "BenchOptions":
            from meter_runtime.bench.options import BenchOptions

            return BenchOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
