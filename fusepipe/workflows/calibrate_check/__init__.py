"""``fusepipe calibrate check``: residuals of a calibration on image pairs, and the page of pictures."""
