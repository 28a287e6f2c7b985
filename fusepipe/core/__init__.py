"""What everything stands on: frames, the error tree, the ``Fuser`` protocol, the registry of models, files and units.

Imports nothing else of fusepipe; everything may import it.
"""
