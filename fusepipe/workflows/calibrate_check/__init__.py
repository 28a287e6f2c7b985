"""``fusepipe calibrate check``: the residuals of a calibration on image pairs, and a page that shows them.

Imported by ``commands.calibrate_check`` only.
"""
