"""The process that runs rigs: start and end of several, signals, reload on SIGHUP, systemd, event log, progress line.

Imported by the commands that run rigs, and for its signals by ``build_engine``.
"""
