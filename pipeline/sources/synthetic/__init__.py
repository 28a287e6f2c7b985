"""``synthetic://street``: a rendered scene with known ground truth, for demos, tests and benchmarks."""
