"""What the house behind the bench meter uses and yields: modelled, or played from a file."""

from meter_runtime.bench.load.household import LoadModel
from meter_runtime.bench.load.recorded import CsvLoad

__all__ = ["CsvLoad", "LoadModel"]
