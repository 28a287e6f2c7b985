"""A live infrared camera that returns with images of another shape, beside a visible one that stays."""

import logging

import numpy as np
import pytest
from helpers.waiting import wait_for
from peers.http_camera import HttpCamera

from fusepipe.calibration.file.model import make_calibration
from fusepipe.calibration.file.storage import save_calibration
from fusepipe.config.schema import Rig
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.rig.api import Pipeline

SIZE, OTHER = (160, 120), (160, 64)


class Count:
    """A sink that counts the frames that show both cameras."""

    label, outputs = "memory", ()

    def __init__(self):
        self.states = []

    def check(self):
        """Accepts everything."""

    def write(self, frame):
        self.states.append(str(frame.state))

    def close(self):
        return SinkReport(self.label, len(self.states), 0)


@pytest.fixture
def running(tmp_path, request):
    """The infrared camera, the states of the fused frames, and a rig that fuses both."""
    calibration = None
    if request.param:
        calibration = str(tmp_path / "c.yaml")
        matrix = np.array([[1, 0, 4], [0, 1, 4], [0, 0, 1]], float)
        save_calibration(make_calibration("homography", SIZE, SIZE, matrix), calibration)
    with HttpCamera("video") as infrared, HttpCamera("video") as visible:
        rig = {
            "name": "r",
            "infrared": {"url": infrared.url, "freeze_detection": "off"},
            "visible": {"url": visible.url, "freeze_detection": "off"},
            "registration": {"calibration": calibration},
            "fusion": {"model": "mean"},
        }
        sink = Count()
        pipeline = Pipeline(Rig.model_validate(rig), sinks=[sink], duration_s=300)
        pipeline.start()
        try:
            wait_for(lambda: "fused" in sink.states)
            yield infrared, sink.states, pipeline
        finally:
            pipeline.drain()
            pipeline.wait(60)
            pipeline.close()


def changed(camera, size, states, wanted):
    """Waits for a frame in the ``wanted`` state after the camera has changed its size."""
    camera.show(*size)
    camera.drop()
    before = len(states)
    wait_for(lambda: wanted in states[before:])


@pytest.mark.parametrize("running", [True], indirect=True)
def test_a_calibrated_camera_is_left_out_until_its_images_fit_again(running):
    infrared, states, pipeline = running
    changed(infrared, OTHER, states, "single")
    camera = pipeline.opened.infrared.source
    wait_for(lambda: "160x64; the calibration was made at 160x120" in camera.last_error)
    assert camera.failures["image of another shape"]
    assert not pipeline.finished, "the visible camera is shown alone"
    changed(infrared, SIZE, states, "fused")
    pipeline.raise_error()


@pytest.mark.parametrize("running", [False], indirect=True)
def test_without_a_calibration_the_stretched_image_is_reported(running, caplog):
    infrared, _, pipeline = running
    with caplog.at_level(logging.WARNING):
        infrared.show(*OTHER)
        wait_for(lambda: "infrared 160x64 and visible 160x120 differ in shape" in caplog.text)
    assert [text for text in pipeline.report().warnings if "the infrared image is stretched" in text]
    pipeline.raise_error()
