"""Training of the networks that ship, and their export to ONNX; needs the extra ``fusepipe[train]``.

``session`` runs ``tasks`` in the one ``loop``; ``checkpoint`` resumes it. Beside ``workflows``: may import ``core``,
``evaluation`` and ``engines``; imported by ``commands`` only. README.md describes the layout.
"""
