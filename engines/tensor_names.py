"""The names of a fusion network's inputs and output, which running needs and the package ``onnx`` does not."""

INPUTS = ("infrared", "visible")
OUTPUT = "fused"
PLACES = "places"
"""The input that only graphs with the registration warp have (:mod:`fusepipe.engines.builder.warp`)."""
