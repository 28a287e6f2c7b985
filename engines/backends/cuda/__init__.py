"""The narrow CUDA interface (memory, copies, streams, events, graphs) over cuda-bindings or PyCUDA.

Imports ``core`` only; imported by ``engines.backends.tensorrt``, the rest of ``engines`` and ``workflows``.
"""
