"""Reports of a run: counts and summary, the live part, the status, a shortfall of pairs, the result of a dry run.

Imported by the other modules of ``rig``.
"""
