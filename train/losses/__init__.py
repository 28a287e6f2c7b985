"""Loss terms: pure functions of tensors; imports nothing of ``train``."""
