"""Classical fusion methods as pure functions of two images; ``load`` makes fusers of them, by name.

Imported by ``evaluation.metrics``, ``evaluation.report`` and ``workflows``, and by name through ``core.models``.
"""
