"""Sources of frames. ``base`` is the contract; ``rig.sources`` makes them from a rig's configuration."""
