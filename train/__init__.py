"""Networks, losses, training and ONNX export; needs the extra ``fusepipe[train]``."""
