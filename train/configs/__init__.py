"""The training configurations as typed models, and the shipped YAML files.

May import ``data``, ``losses`` and ``networks``.
"""
