"""Measuring fusion: metrics on 8-bit luma and the classical baselines every result is compared with.

``metrics`` is the table of all metrics; ``information``, ``similarity``, ``gradients``, ``fidelity``,
``feature_information``, ``perceptual`` and ``temporal`` hold the functions. ``baselines`` gives ``mean``,
``max``, ``pyramid``, ``cbf``, ``gtf`` and ``jsrsd`` as fusers.
"""
