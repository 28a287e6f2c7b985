"""Runtimes that execute a network: OpenVINO, PyTorch, TensorRT and TensorRT-RTX.

Imported by the rest of ``engines``, by ``workflows`` and, to run teachers and detectors, by ``train``.
"""
