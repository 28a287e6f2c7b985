"""Calibration files: the format, its fields, exchange with OpenCV and kalibr."""
