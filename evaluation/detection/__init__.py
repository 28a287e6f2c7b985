"""How well an object detector sees in fused images: AP50 where labels exist, recall of persons where none do.

Imports ``core`` and ``evaluation.image_sets``; imported by ``evaluation.report`` and ``workflows``.
"""
