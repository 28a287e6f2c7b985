"""``synthetic://street``: a rendered scene with known truth, for demos, tests and benchmarks."""
