"""A training from its data folder to exported weights, one module per network; what the commands call.

Imports the rest of ``train``; imported by ``commands`` and ``train.ablation``.
"""
