"""``fusepipe build-engine``: resolves its options, makes its test images, builds and verifies the engine.

Imported by ``commands.build_engine``, ``workflows.bench`` and ``workflows.verify_engine``.
"""
