"""TensorRT and TensorRT-RTX: library, plan, execution slots, runtime, and the double that tests run on.

Imports ``engines.backends.cuda``; imported by ``engines`` and by ``workflows.build_engine``.
"""
