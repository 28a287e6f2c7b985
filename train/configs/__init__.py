"""The training configurations as typed models, and the shipped YAML files.

May import ``data``, ``losses`` and ``networks``; imported by ``tasks``, ``session``, the modules of ``train`` and
``commands``.
"""
