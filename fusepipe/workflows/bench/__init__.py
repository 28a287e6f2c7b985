"""``fusepipe bench``: throughput of the whole pipeline, of each stage and of each engine, and the soak test.

Imported by ``commands.bench`` only.
"""
