"""When the threads of engines end.

Rule: an engine's thread is named, is not a daemon, and ends with the engine's ``close``, which joins it. If a program
ends without closing an engine, the thread finishes the requests in flight, frees the engine and ends on its own, so
that interpreter exit never waits for a ``close`` that does not come. As with ``concurrent.futures``, an engine accepts
no requests once the interpreter exits.
"""

from __future__ import annotations

import threading

IDLE_CHECK_S = 0.2
"""How often an idle thread checks whether the interpreter exits."""


def interpreter_exiting() -> bool:
    """Whether the main thread has ended: the interpreter then waits for all other threads."""
    return not threading.main_thread().is_alive()
