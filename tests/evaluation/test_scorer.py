"""Scoring in several processes ends at once when it is left, and says when a process has died."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.waiting import wait_for

from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.evaluation.scorer import Scorer, Triple
from fusepipe.evaluation.scores import metric_names

NAMES = metric_names("all", None)
KILLED = """
import os, sys, time, traceback
import numpy as np
from fusepipe.evaluation.scorer import Scorer, Triple

def waiting_threads():
    stacks = [traceback.extract_stack(frame) for frame in sys._current_frames().values()]
    return sum(any(call.name == "recv" for call in stack) for stack in stacks)

rng = np.random.default_rng(0)
images = [Triple("", *rng.integers(0, 256, (3, side, side), np.uint8)) for side in (16, 16, 3000, 3000)]
scores = Scorer(%r, 2).scores(images)
next(scores), next(scores)
while waiting_threads() < 2:  # until both processes have an image
    time.sleep(.01)
os.kill(os.getpid(), 9)
"""


def triple(number, side):
    rng = np.random.default_rng(number)
    return Triple(str(number), *(rng.integers(0, 256, (side, side), np.uint8) for _ in range(3)))


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("scorer")]


@pytest.fixture
def workers():
    """The processes that a test has started so far."""
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


def test_leaving_early_ends_the_processes_in_the_middle_of_an_image(workers):
    """As Ctrl-C does: the images are so large that none of them could be finished."""
    scorer = Scorer(NAMES, 2)

    def triples():
        yield triple(0, 16)
        for number in range(1, 5):
            yield triple(number, 2000)

    scores = scorer.scores(triples())
    next(scores)
    started = workers()
    assert len(started) == 2
    scores.close()
    scorer.close()
    assert {worker.exitcode for worker in started} == {-signal.SIGKILL}
    assert not threads()


def test_leaving_early_while_images_are_sent_ends_too(workers):
    """Processes that are stopped read nothing, so that their pipes are full."""
    scorer = Scorer(NAMES, 2)
    started = set()

    def triples():
        for number in range(2):
            yield triple(number, 1000)
            started.update(workers())
            for worker in started:
                os.kill(worker.pid, signal.SIGSTOP)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(scorer.scores(triples()))
    scorer.close()
    assert [worker.exitcode for worker in started] == [-signal.SIGKILL] * 2
    assert not threads()


def test_processes_that_have_finished_their_work_end_by_themselves(workers):
    scorer = Scorer(("EN",), 2)
    assert len(list(scorer.scores([triple(number, 16) for number in range(3)]))) == 3
    started = workers()
    scorer.close()
    assert {worker.exitcode for worker in started} == {0}
    assert not threads()


def test_a_process_that_is_killed_is_one_line(workers):
    scorer = Scorer(NAMES, 2)
    scores = scorer.scores(triple(number, 16 if number < 1 else 2000) for number in range(5))
    next(scores)
    for worker in workers():
        os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(FusepipeError, match="was killed, probably out of memory; try --jobs 1"):
        list(scores)
    scorer.close()
    wait_for(lambda: not workers())
    assert not threads()


def test_an_error_of_an_image_comes_as_it_does_in_one_process(workers):
    odd = Triple("odd", *(np.zeros((side, 16), np.uint8) for side in (16, 16, 12)))
    messages = []
    for jobs in (1, 2):
        scorer = Scorer(("MI",), jobs)
        with pytest.raises(UsageError) as caught:
            list(scorer.scores([triple(0, 16), odd]))
        messages.append(str(caught.value))
        scorer.close()
    assert messages[0] == messages[1]
    wait_for(lambda: not workers())


class RefusesError(Exception):
    """Cannot be pickled, as an error that refers to a lock or a module."""

    def __reduce__(self):
        raise TypeError("cannot pickle")


class NeedsTwoError(Exception):
    """Is pickled, but cannot be made again from its message."""

    def __init__(self, what, side):
        super().__init__(f"{what} of {side} pixels")


class FailingLuma:
    """An image of which the metrics fail with an error of this module."""

    def __init__(self, error):
        self.error = error

    @property
    def shape(self):
        raise RefusesError("no memory on it") if self.error == "refuses" else NeedsTwoError("device", 8)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("refuses", "dusk: RefusesError: no memory on it"),
        ("needs two", "dusk: NeedsTwoError: device of 8 pixels"),
    ],
)
def test_an_error_that_cannot_be_sent_is_named_and_is_no_lack_of_memory(error, said):
    image = np.zeros((16, 16), np.uint8)
    scorer = Scorer(("MI",), 2)
    with pytest.raises(FusepipeError) as caught:
        list(scorer.scores([Triple("dusk", image, image, FailingLuma(error))]))
    scorer.close()
    assert str(caught.value) == said
    assert any("in shape" in note for note in caught.value.__notes__), "the traceback of the process"


def test_processes_end_with_the_one_that_started_them():
    """They hold its standard error, which says nothing, and would take minutes for their images."""
    command = [sys.executable, "-c", KILLED % (NAMES,)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGKILL, "")
