"""Factories: the sources, pairer, registration, fuser and sinks of a rig, made from its configuration.

Imported by the other modules of ``rig`` and by ``workflows`` that open a source or a fuser themselves.
"""
