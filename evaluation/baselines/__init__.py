"""Classical fusion methods as pure functions of two images; ``load`` makes fusers of them, by name.

Imported by ``core.models`` (by name), ``workflows`` and the benchmarks.
"""
