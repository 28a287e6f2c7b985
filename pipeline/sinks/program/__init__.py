"""Sinks that hand frames to the program that runs the pipeline; imported by fusepipe.rig."""
