"""What a run measures about itself: counts, recent rates, distributions, CPU time of its stages.

Imported by the graph, the sinks' runner and ``rig``; imports nothing of the pipeline.
"""
