"""Settings that change while a rig runs: the difference of two configurations, and how each key is applied.

Imported by ``rig.run`` alone.
"""
