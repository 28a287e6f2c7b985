"""Threads that compute small images pass the gate in turn; large ones do not wait."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from helpers.waiting import wait_for

from fusepipe.engines.backends.openvino import slots
from fusepipe.engines.backends.openvino.compute_gate import SMALL_PX, ComputeGate
from fusepipe.engines.backends.openvino.pyramid import Pyramid
from fusepipe.engines.load import load_model

ALONE_S = 0.3  # how long a thread stays inside, for another one to come in if it could


def test_a_small_image_waits_for_its_turn_and_a_large_one_does_not() -> None:
    gate, inside, leave, second = ComputeGate(1), threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with gate.passed(SMALL_PX):
            inside.set()
            leave.wait(60)

    def follow() -> None:
        with gate.passed(1):
            second.set()

    threads = [threading.Thread(target=hold), threading.Thread(target=follow)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    with gate.passed(SMALL_PX + 1):
        assert not second.wait(ALONE_S), "it came in while another one was inside"
    leave.set()
    for thread in threads:
        thread.join(60)
    assert second.is_set()


def test_a_failure_inside_opens_the_gate_again() -> None:
    gate = ComputeGate(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), gate.passed(1):
            raise ZeroDivisionError


@pytest.mark.parametrize("part", ["reduce", "add_detail"])
def test_the_finer_levels_of_two_rigs_are_computed_in_turn(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(slots, "GATE", ComputeGate(1))
    real = getattr(Pyramid, part)
    lock, counts, most = threading.Lock(), [0], [0]
    joined = threading.Event()

    def counted(*args: object) -> object:
        with lock:
            counts[0] += 1
            most[0] = max(most[0], counts[0])
            if counts[0] > 1:
                joined.set()
        joined.wait(ALONE_S)
        with lock:
            counts[0] -= 1
        return real(*args)

    images = np.random.default_rng(0).integers(0, 256, (2, 48, 64), np.uint8)
    fused: list[np.ndarray] = []
    with load_model("stream") as first, load_model("stream") as second:
        expected = first.fuse(images[0], images[1])
        second.fuse(images[0], images[1])
        monkeypatch.setattr(Pyramid, part, counted)
        threads = [
            threading.Thread(target=lambda one=one: fused.append(one.fuse(images[0], images[1])))
            for one in (first, second)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(fused) == len(threads))
        for thread in threads:
            thread.join(60)
    assert most[0] == 1
    assert all(np.array_equal(image, expected) for image in fused)
