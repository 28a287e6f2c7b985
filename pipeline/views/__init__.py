"""What an output shows of each pair: palettes, comparisons of both cameras, marks of hot areas.

All of it works on planes (Y, Cb, Cr): the fused luma and the visible chroma are never converted to RGB and back.
Imports `core`; the preview page and the rig use it.
"""
