"""``rigs.yaml`` as frozen, typed models: reading, checking with line numbers, secrets, the JSON schema.

Imports ``core`` only. Imported by ``rig``, ``workflows`` and ``commands``.
"""
