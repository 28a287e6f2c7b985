"""One rig from its configuration to a finished run.

The only package that knows both the configuration and the classes of ``pipeline`` and ``engines``. ``api`` has what
programs use (``Pipeline``), ``opening`` makes an ``OpenedRig`` with the ``factories``, ``run`` runs it, ``process``
runs several with signals and reload; ``fuse`` and ``validate`` are the commands of that name. Imported by ``workflows``
and ``commands``.
"""
