"""The networks as PyTorch modules; imports nothing of ``train``."""
