"""The virtual laboratory: modules, air, household and time that stand in for the real ones.

It imports every other room; none imports it.
"""

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions

__all__ = ["Bench", "BenchOptions"]
