"""Networks in PyTorch: the fp32 reference on the CPU, and fp16 with CUDA graphs on GPUs without TensorRT.

Imports ``core`` and the graph functions of ``engines``; imported by the rest of ``engines`` and, to run detectors and
teachers, by ``train``.
"""
