"""Networks on CPUs through OpenVINO: the fuser, its requests, the integer levels of pyramid networks, single runs.

Imported by the rest of ``engines``, by ``workflows`` and by ``train``; never imports ``engines.backends.tensorrt``.
"""
