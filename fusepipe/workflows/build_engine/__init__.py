"""``fusepipe build-engine``: resolves its options, makes its test images, builds and verifies the engine."""
