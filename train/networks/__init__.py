"""The networks as PyTorch modules.

Imports nothing of ``train``; imported by all of it but ``data``.
"""
