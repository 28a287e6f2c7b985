"""Builds engines and verifies them: precision conversion, compilation, proof against the fp32 network."""
