"""Measuring fusion: metrics on 8-bit luma and the classical baselines every result is compared with.

``metrics`` is the table of all metrics; ``information``, ``similarity`` and ``gradients`` hold the
functions. ``baselines`` gives ``mean``, ``max`` and ``pyramid`` as fusers.
"""
