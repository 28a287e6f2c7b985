"""CPU time of the stages of a run: of each stage's thread, and of the native threads that its libraries start.

Inference engines and codecs compute in threads of their own. On Linux a new thread inherits the name of the thread that
starts it, so each stage's thread gets a system-wide name (as ``top -H`` shows it), and threads of that name that Python
does not know are the stage's. Engines on a CPU share one pool of threads, whichever rig's stage started it: its CPU
time is divided among the rigs by the time that their fusion stages were busy. Elsewhere only the stage's own thread is
measured.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path

TASKS = Path("/proc/self/task")
MAX_NAME = 15  # characters, of Linux
FUSION_STAGE = "fuse"
WATCH_STAGE = "watch"  # opens lighter engines, whose threads belong to the fusion stage

_numbers = count(1)


class NativeThreads:
    """CPU time in ns of the threads of this process that Python did not start, by the name they inherited."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[str, int]] = {}  # by thread id
        self._ended_ns: Counter[str] = Counter()
        self._lock = threading.Lock()

    def cpu_ns(self) -> dict[str, int]:
        """Of all threads so far; what a thread used between the last call and its end is lost."""
        known = {thread.native_id for thread in threading.enumerate()}
        with self._lock:
            seen: dict[int, tuple[str, int]] = {}
            for folder in TASKS.iterdir() if TASKS.is_dir() else ():
                if int(folder.name) not in known and (read := _read(folder)) is not None:
                    seen[int(folder.name)] = read
            for thread_id, (name, used_ns) in self._running.items():
                again = seen.get(thread_id)
                if again is None or again[0] != name or again[1] < used_ns:
                    self._ended_ns[name] += used_ns
            self._running = seen
            total = Counter(self._ended_ns)
            for name, used_ns in seen.values():
                total[name] += used_ns
            return dict(total)


def _read(folder: Path) -> tuple[str, int] | None:
    """Name and CPU time of a thread; ``None`` once it has ended."""
    try:
        return (folder / "comm").read_text().rstrip("\n"), int((folder / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def name_this_thread(name: str) -> None:
    """Names the calling thread for the system, where it has such names."""
    try:
        (TASKS / str(threading.get_native_id()) / "comm").write_text(name[:MAX_NAME])
    except OSError:
        return  # not on Linux, or /proc is read-only: only the stage's own thread is measured


class EnginePool:
    """Divides the CPU time of the engines' threads among the rigs of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy_ns: Counter[str] = Counter()  # by rig, not yet divided
        self._divided_ns = 0
        self._cpu_ns: Counter[str] = Counter()  # by rig

    def busy(self, rig: str, busy_ns: int) -> None:
        """The fusion stage of a rig was busy for so long."""
        with self._lock:
            self._busy_ns[rig] += busy_ns

    def cpu_ns(self, rig: str, native_ns: dict[str, int]) -> int:
        """The rig's share so far; ``native_ns`` is from :meth:`NativeThreads.cpu_ns`."""
        total_ns = sum(used_ns for name, used_ns in native_ns.items() if name.endswith(f":{FUSION_STAGE}"))
        with self._lock:
            busy_ns = sum(self._busy_ns.values())
            if busy_ns and total_ns > self._divided_ns:
                new_ns, self._divided_ns = total_ns - self._divided_ns, total_ns
                for one, one_ns in self._busy_ns.items():
                    self._cpu_ns[one] += round(new_ns * one_ns / busy_ns)
                self._busy_ns.clear()
            return self._cpu_ns[rig]


_NATIVE = NativeThreads()
_POOL = EnginePool()


class StageCpu:
    """CPU time of one run's stages; any thread."""

    def __init__(self, native: NativeThreads = _NATIVE, pool: EnginePool = _POOL) -> None:
        self._run = str(next(_numbers))
        self._native, self._pool = native, pool
        self._lock = threading.Lock()
        self._ended_ns: Counter[str] = Counter()  # of own threads that have ended
        self._clocks: dict[str, int] = {}  # of running ones

    def started(self, stage: str) -> None:
        """Called by the stage's own thread, before it starts any other."""
        name_this_thread(f"{self._run}:{FUSION_STAGE if stage == WATCH_STAGE else stage}")
        clock_of = getattr(time, "pthread_getcpuclockid", None)  # macOS: known when the stage ends
        with self._lock:
            self._ended_ns[stage] += 0
            if clock_of is not None:
                self._clocks[stage] = clock_of(threading.get_ident())

    def ended(self, stage: str) -> None:
        """The last call of the same thread: its CPU clock ends with it."""
        with self._lock:
            self._clocks.pop(stage, None)
            self._ended_ns[stage] += time.thread_time_ns()

    def fusion_busy(self, busy_ns: int) -> None:
        """The fusion stage was busy for so long."""
        self._pool.busy(self._run, busy_ns)

    def cpu_ns(self) -> dict[str, int]:
        """By stage, so far."""
        native_ns = self._native.cpu_ns()
        with self._lock:
            used = dict(self._ended_ns)
            for stage, clock in self._clocks.items():
                used[stage] += time.clock_gettime_ns(clock)
        for stage in used:
            name = f"{self._run}:{stage}"[:MAX_NAME]
            used[stage] += self._pool.cpu_ns(self._run, native_ns) if stage == FUSION_STAGE else native_ns.get(name, 0)
        return used
