"""The foundation: frames, the error tree, the ``Fuser`` protocol, the registry of models, YAML, units and files.

Imports nothing else of fusepipe; everything may import it.
"""
