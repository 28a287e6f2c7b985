"""Where fused frames go. ``base`` is the contract, ``runner`` feeds one sink; ``rig.sinks`` makes them from a rig."""
