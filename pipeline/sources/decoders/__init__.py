"""Hardware decoders of video, and software decoding where there are none.

Imports ``core`` only; imported by ``pipeline.sources``, ``rig`` and ``workflows``.
"""
