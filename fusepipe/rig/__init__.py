"""One rig from its configuration to a finished run: opening, the run, its sources and sinks, reload, report, signals.

The only package that knows both the configuration and the classes of ``pipeline`` and ``engines``: ``pipeline`` is the
public face, ``opening`` makes an ``OpenedRig``, ``run`` runs it. Imported by ``workflows`` and ``commands``.
"""
