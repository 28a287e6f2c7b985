"""The streaming graph: sources, pairing, registration, fusion and sinks, each in its own thread.

Data flows one way::

    sources/ -> pairing.py -> registration.py -> tonemap.py -> fusion.py -> sinks/

``graph.py`` wires them with the bounded mailboxes of ``mailbox.py`` under the supervisor of
``supervisor.py``. Pure logic (``pairing.py``, ``tonemap.py``, ``statistics.py``) knows no threads.
"""
