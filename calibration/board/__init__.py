"""Calibration from boards: targets, detection, single cameras, the stereo pair."""
