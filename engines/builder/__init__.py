"""Builds engines: converts the precision, compiles, and verifies against the fp32 network.

Imports the rest of ``engines``, whose other modules do not import it: running never builds. Imported by ``workflows``
and ``commands``.
"""
