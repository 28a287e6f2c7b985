"""Reading live sources in tests: timeouts, ports, and a bounded read."""

import threading

from fusepipe.core.frames import Frame
from fusepipe.pipeline.sources.live.connection_options import LiveOptions

S = 1_000_000_000
SLOW = LiveOptions(open_timeout_ns=5 * S, stall_timeout_ns=4 * S)
QUICK = LiveOptions(open_timeout_ns=3 * S, stall_timeout_ns=1 * S)
PATIENT = LiveOptions(open_timeout_ns=30 * S, stall_timeout_ns=30 * S)


def collect(source, count, timeout_s=40, step=lambda n, frame: None):
    """Reads ``count`` frames and calls ``step`` with the number of each; fails after ``timeout_s``."""
    stop = threading.Event()
    watchdog = threading.Timer(timeout_s, stop.set)
    watchdog.start()
    frames = []
    try:
        for item in source.frames(stop):
            if isinstance(item, Frame):
                frames.append(item)
                step(len(frames), item)
                if len(frames) >= count:
                    stop.set()
    finally:
        watchdog.cancel()
        source.close()
    assert len(frames) == count, f"{len(frames)} of {count} frames in {timeout_s} s: {source.failures}"
    return frames
