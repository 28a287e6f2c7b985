"""``rigs.yaml`` as frozen, typed models: reading, checking with line numbers, secrets, the JSON schema.

Imports ``core`` only. Imported by ``calibration`` (its files are read the same way), ``rig``, ``train`` and above.
"""
