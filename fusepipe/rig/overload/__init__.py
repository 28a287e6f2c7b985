"""Overload of a live rig: detection, advice from costs measured on this machine, and stepping to a lighter model.

Imported by ``fusepipe.rig.run`` only; imports the factories of fusers and the running graph.
"""
