"""Names of the inputs and the output of a fusion network, for code that must not import ``onnx``."""

INPUTS = ("infrared", "visible")
OUTPUT = "fused"
SAMPLING_GRID = "sampling_grid"
"""The additional input of graphs with the registration warp (:mod:`fusepipe.engines.builder.warp_graph`)."""

COARSE_INPUTS = ("coarse_infrared", "coarse_visible")
COARSE_OUTPUTS = ("coarse_fused", "coarse_gates", "coarse_gains")
"""Tensors inside the graph of a pyramid network, around its coarse part (``backends.openvino.pyramid``)."""
