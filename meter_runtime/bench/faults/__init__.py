"""Faults on demand: what goes wrong in the field, as entries of one catalogue.

A group's module declares its entries; :mod:`~meter_runtime.bench.faults.catalogue` gathers them;
:mod:`~meter_runtime.bench.faults.ledger` begins and ends them on a running bench.
"""
