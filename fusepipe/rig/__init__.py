"""One rig from its configuration to a finished run: opening, the run, its sources and sinks, reload, report, signals.

The one place that knows both the configuration and the classes of ``pipeline`` and ``engines``. Imported by
``workflows`` and ``commands``.
"""
