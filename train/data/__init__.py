"""What a training reads: folders and splits, decoded images, augmentation, crops.

Of ``train`` imports ``losses`` only; imported by ``configs``, ``tasks``, ``session`` and the modules of ``train``.
"""
