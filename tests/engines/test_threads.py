"""Threads of engines: named, joined by ``close``, and ended at interpreter exit without it (engines/threads.py)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from fusepipe.core.errors import EngineError
from fusepipe.core.fuser import Fuser, FuserInfo, FusionBatch
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.plan import Plan
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser
from fusepipe.engines.backends.tensorrt.worker import START_TIMEOUT_S
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.sharing import SharedEngines

INFO = FuserInfo("stream", "tensorrt", "fp32", max_in_flight=2, max_batch=4)
IMAGE = np.zeros((16, 16), np.uint8)
BATCH = FusionBatch((IMAGE,), (IMAGE,))


def open_fuser(cuda: FakeCuda) -> TensorRtFuser:
    shapes = Shapes((2, 2), (64, 48), (128, 128), batch=4)
    return TensorRtFuser(INFO, shapes, 2, lambda: FakePlan(cuda, read_onnx("stream")), lambda: cuda)


def open_shared(cuda: FakeCuda) -> Fuser:
    return SharedEngines().lease("key", lambda: open_fuser(cuda))


Opener = Callable[[FakeCuda], Fuser]
OPENERS = pytest.mark.parametrize("opener", [open_fuser, open_shared])


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Each test ends with the threads it began with."""
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert left == []


@OPENERS
def test_threads_are_named_and_no_daemons(opener: Opener) -> None:
    before = set(threading.enumerate())
    fuser = opener(FakeCuda())
    started = set(threading.enumerate()) - before
    fuser.close()
    wanted = {"tensorrt-stream", "tensorrt-stream-results"}
    assert {thread.name for thread in started} - {"share-stream", "share-stream-results"} == wanted
    assert not any(thread.daemon for thread in started)


@OPENERS
def test_close_ends_the_threads_also_when_called_twice(opener: Opener) -> None:
    fuser = opener(FakeCuda())
    ticket = fuser.submit(BATCH)
    fuser.close()
    fuser.close()
    assert ticket.result()[0].shape == IMAGE.shape


@OPENERS
@pytest.mark.parametrize("call", ["copy_in", "allocate", "wait"])
def test_close_ends_the_threads_after_a_request_that_failed(opener: Opener, call: str) -> None:
    fuser = opener(FakeCuda(fail=call))
    with pytest.raises(EngineError, match=f"{call} failed"):
        fuser.fuse(IMAGE, IMAGE)
    close_ignoring_errors(fuser)


@OPENERS
def test_the_threads_end_when_closing_fails(opener: Opener) -> None:
    fuser = opener(FakeCuda(fail="destroy_stream"))
    fuser.fuse(IMAGE, IMAGE)
    with pytest.raises(EngineError, match="destroy_stream failed"):
        fuser.close()


def test_the_thread_ends_when_the_engine_cannot_be_opened() -> None:
    def refuse() -> Plan:
        raise EngineError("the plan cannot be loaded")

    cuda = FakeCuda()
    with pytest.raises(EngineError, match="cannot be loaded"):
        TensorRtFuser(INFO, Shapes((2, 2), (64, 48), (128, 128)), 2, refuse, lambda: cuda)


def test_the_thread_ends_when_opening_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the plan is loaded."""
    loading, go_on, cuda = threading.Event(), threading.Event(), FakeCuda()

    def load() -> Plan:
        loading.set()
        assert go_on.wait(20)
        return FakePlan(cuda, read_onnx("stream"))

    original = threading.Event.wait

    def interrupt(self: threading.Event, timeout: float | None = None) -> bool:
        if timeout == START_TIMEOUT_S:
            raise KeyboardInterrupt
        return original(self, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Event, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            TensorRtFuser(INFO, Shapes((2, 2), (64, 48), (128, 128)), 2, load, lambda: cuda)
    assert loading.wait(20)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "tensorrt-stream":
            thread.join(20)
    assert cuda.closed


_PROGRAM = """
import threading
import numpy as np
from fusepipe.core.errors import EngineError
from fusepipe.core.fuser import FuserInfo, FusionBatch
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser
from fusepipe.engines.load import read_onnx
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.sharing import SharedEngines

cuda, image = FakeCuda(), np.zeros((16, 16), np.uint8)
info = FuserInfo("stream", "tensorrt", "fp32", max_in_flight=2, max_batch=4)
shapes = Shapes((2, 2), (64, 48), (128, 128), batch=4)
def open_engine():
    return TensorRtFuser(info, shapes, 2, lambda: FakePlan(cuda, read_onnx("stream")), lambda: cuda)
fuser = SharedEngines().lease("key", open_engine) if {shared} else open_engine()
ticket = fuser.submit(FusionBatch((image,), (image,)))
{ending}
"""
# A thread that outlives the main thread: the request in flight is served, later ones are refused.
_OUTLIVES = """
def outlive():
    threading.main_thread().join()
    print(ticket.result(20)[0].shape, flush=True)
    refused = threading.Event()
    while not refused.wait(0.05):
        try:
            fuser.submit(FusionBatch((image,), (image,))).result(20)
        except EngineError as error:
            print(error, flush=True)
            refused.set()
        refused.wait(0.5)
threading.Thread(target=outlive).start()
"""


def ended(shared: bool, ending: str) -> subprocess.CompletedProcess[str]:
    """A program that does not close its engine; fails if its interpreter does not exit."""
    code = _PROGRAM.format(shared=shared, ending=ending)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("shared", [False, True])
def test_the_interpreter_exits_with_an_unclosed_engine_and_frees_it(shared: bool) -> None:
    ran = ended(shared, "print(ticket.result()[0].shape)")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "(16, 16)\n", "")
    ran = ended(shared, "raise RuntimeError('the program failed')")
    assert ran.returncode == 1 and "the program failed" in ran.stderr
    ran = ended(shared, "import atexit; atexit.register(lambda: print('freed' if cuda.closed else 'leaked'))")
    assert ran.stdout == "freed\n"


@pytest.mark.parametrize("shared", [False, True])
def test_an_engine_refuses_requests_at_interpreter_exit(shared: bool) -> None:
    ran = ended(shared, _OUTLIVES)
    assert ran.returncode == 0 and ran.stderr == ""
    first, refused = ran.stdout.splitlines()
    assert first == "(16, 16)" and "has stopped" in refused


def close_ignoring_errors(fuser: Fuser) -> None:
    """The failing call may fail again while closing."""
    with contextlib.suppress(EngineError):
        fuser.close()
    fuser.close()
