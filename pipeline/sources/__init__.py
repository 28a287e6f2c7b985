"""Where frames come from. ``base`` is the contract; ``rig.sources`` makes them from a rig."""
