"""Benchmarks anyone can rerun: ``./dev bench``, or ``python -m benchmarks``.

A group is one module of this package with ``measure() -> list[Row]``, registered under its name in
:data:`benchmarks.groups.GROUPS`; the table, ``--only`` and ``--json`` follow from there. Arguments
of ``measure`` have defaults for the real run, so that a test can ask for less. Figures are of the
real parts, and smaller is better. What each of them means stands in ``docs/performance.md``.
"""
