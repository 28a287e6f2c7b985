"""What the commands do, one module or folder each, named like the command. No click here: all of it works from Python.

Imports everything below ``commands`` but ``train``; imported by ``commands`` only.
"""
