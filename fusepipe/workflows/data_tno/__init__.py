"""``fusepipe data tno``: download, verification and arrangement of the TNO data set.

Imported by ``commands.data_tno`` only.
"""
