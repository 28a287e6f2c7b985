"""``scripts/gpu_acceptance``: builds, verifies, tests and measures everything that needs a GPU, into a JSON and a page.

Imported by ``scripts/gpu_acceptance`` only; imports what ``workflows`` may.
"""
