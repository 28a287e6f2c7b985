"""Scoring in several processes ends at once when it is left."""

import multiprocessing
import signal

import numpy as np
import pytest

from fusepipe.evaluation.scorer import Scorer, Triple
from fusepipe.evaluation.scores import metric_names

NAMES = metric_names("all", None)


def triple(number, side):
    rng = np.random.default_rng(number)
    return Triple(str(number), *(rng.integers(0, 256, (side, side), np.uint8) for _ in range(3)))


@pytest.mark.slow
def test_leaving_early_ends_the_processes_in_the_middle_of_an_image():
    """As Ctrl-C does: the images are so large that none of them could be finished."""
    before = set(multiprocessing.active_children())
    scorer = Scorer(NAMES, 2)

    def triples():
        yield triple(0, 16)
        for number in range(1, 5):
            yield triple(number, 2000)

    scores = scorer.scores(triples())
    next(scores)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    scores.close()
    scorer.close()
    assert {worker.exitcode for worker in workers} == {-signal.SIGTERM}


def test_processes_that_have_finished_their_work_end_by_themselves():
    before = set(multiprocessing.active_children())
    scorer = Scorer(("EN",), 2)
    assert len(list(scorer.scores([triple(number, 16) for number in range(3)]))) == 3
    workers = set(multiprocessing.active_children()) - before
    scorer.close()
    assert {worker.exitcode for worker in workers} == {0}
