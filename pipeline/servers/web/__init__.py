"""The preview page: the live picture, states and numbers in a browser, metrics and health for machines.

``access`` decides who may ask, ``views`` makes pictures, ``metrics`` text for Prometheus; all pure.
``server`` is the aiohttp application in a thread of its own. It is read-only: nothing it serves changes a rig.
"""
