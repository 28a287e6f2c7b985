"""``fusepipe doctor``: checks of the installation, the backends and the machine, one module per subject.

Imported by ``commands.doctor`` only.
"""
