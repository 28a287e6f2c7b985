"""Runtimes that execute a network: OpenVINO, PyTorch, TensorRT and TensorRT-RTX."""
