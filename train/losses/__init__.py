"""Loss terms: pure functions of tensors.

Of ``train`` imports ``networks`` only; imported by ``configs``, ``data`` and ``tasks``.
"""
