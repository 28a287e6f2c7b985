"""Networks, losses, training loop and ONNX export; needs the extra ``fusepipe[train]``.

Stands beside ``workflows``; imported by ``commands`` only.
"""
