"""What each network is trained on: networks, losses of one step and validation, for the loop of ``train.loop``.

May import ``configs``, ``data``, ``losses``, ``networks`` and ``weights``; imported by ``session`` and ``loop``.
"""
