"""Scenarios: a laboratory, a HEMS, what goes wrong and what must come of it, in one TOML file."""

from meter_runtime.bench.scenario.model import Scenario, bench_options, load
from meter_runtime.bench.scenario.player import Report, play

__all__ = ["Report", "Scenario", "bench_options", "load", "play"]
