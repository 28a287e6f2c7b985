"""Calibration from the scene itself: search, registration, lens, residuals."""
