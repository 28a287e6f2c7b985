"""Metrics, classical baselines and the report that shows them side by side.

Imports ``core`` only; imported by ``train``, ``workflows`` and ``commands``.
"""
