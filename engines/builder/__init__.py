"""Builds engines: converts the precision, compiles, and verifies against the fp32 network."""
