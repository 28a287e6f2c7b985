"""How the infrared camera's picture lies in the visible camera's: calibration files and warps.

``file`` reads and writes calibration files; ``matrix`` checks and rescales the 3x3 matrices in them;
``warp`` makes the map that the pipeline applies to every infrared frame.
"""
