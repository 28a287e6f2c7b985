"""Live cameras that return, or connect after the start, with images of another shape, beside one that stays."""

import json
import logging
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
from helpers.ports import free_port
from helpers.waiting import wait_for
from peers.http_camera import HttpCamera

from fusepipe.calibration.file.model import make_calibration
from fusepipe.calibration.file.storage import save_calibration
from fusepipe.config.schema import Rig
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.rig.api import Pipeline
from fusepipe.rig.factories.sources import make_source

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


def rig_of(infrared, visible, calibration):
    return Rig.model_validate(
        {
            "name": "r",
            "infrared": {"url": infrared.url, "freeze_detection": "off"},
            "visible": {"url": visible.url, "freeze_detection": "off", "open_timeout": "1s"},
            "registration": {"calibration": calibration},
            "fusion": {"model": "mean"},
        }
    )


@pytest.fixture
def calibration(tmp_path):
    matrix = np.array([[1, 0, 4], [0, 1, 4], [0, 0, 1]], float)
    save_calibration(make_calibration("homography", SIZE, SIZE, matrix), tmp_path / "c.yaml")
    return str(tmp_path / "c.yaml")


@contextmanager
def running(rig, state):
    """The states of the frames that the rig writes, of which one is ``state``, and its pipeline."""
    sink = Count()
    pipeline = Pipeline(rig, sinks=[sink], duration_s=300)
    pipeline.start()
    try:
        wait_for(lambda: state in sink.states)
        yield sink.states, pipeline
    finally:
        pipeline.drain()
        pipeline.wait(60)
        pipeline.close()


@pytest.fixture
def cameras():
    with HttpCamera("video") as infrared, HttpCamera("video") as visible:
        yield infrared, visible


def changed(camera, size, states, wanted):
    """Waits for a frame in the ``wanted`` state after the camera has changed its size."""
    camera.show(*size)
    camera.drop()
    before = len(states)
    wait_for(lambda: wanted in states[before:])


def test_a_calibrated_camera_is_left_out_until_its_images_fit_again(cameras, calibration):
    with running(rig_of(*cameras, calibration), "fused") as (states, pipeline):
        changed(cameras[0], OTHER, states, "single")
        camera = pipeline.opened.infrared.source
        wait_for(lambda: "160x64; the calibration was made at 160x120" in camera.last_error)
        assert camera.failures["image of another shape"]
        assert not pipeline.finished, "the visible camera is shown alone"
        changed(cameras[0], SIZE, states, "fused")
        pipeline.raise_error()


def test_a_visible_camera_that_connects_later_with_another_shape_is_left_out(cameras, calibration):
    cameras[1].mode = "hang"
    with running(rig_of(*cameras, calibration), "single") as (states, pipeline):
        cameras[1].show(*OTHER)
        cameras[1].mode = "video"
        camera = pipeline.opened.visible.source
        wait_for(lambda: camera.failures["image of another shape"])
        assert not pipeline.finished, "the infrared camera is shown alone"
        changed(cameras[1], SIZE, states, "fused")
        pipeline.raise_error()


def test_without_a_calibration_the_stretched_image_is_reported(cameras, caplog):
    with running(rig_of(*cameras, None), "fused") as (_, pipeline), caplog.at_level(logging.WARNING):
        cameras[0].show(*OTHER)
        wait_for(lambda: "infrared 160x64 and visible 160x120 differ in shape" in caplog.text)
        assert [text for text in pipeline.report().warnings if "the infrared image is stretched" in text]
        pipeline.raise_error()


def test_a_live_rig_logs_at_once_what_was_found_while_opening(cameras, caplog):
    """Its summary comes when it ends, after months."""
    cameras[0].show(*OTHER)
    with caplog.at_level(logging.WARNING), running(rig_of(*cameras, None), "fused"):
        assert caplog.text.count("r: infrared 160x64 and visible 160x120 differ in shape") == 1


def test_a_camera_that_is_offline_is_logged_by_its_source_only(cameras, caplog):
    cameras[1].mode = "hang"
    with caplog.at_level(logging.WARNING), running(rig_of(*cameras, None), "single") as (_, pipeline):
        assert any("was not available at the start" in text for text in pipeline.report().warnings)
        assert "was not available at the start" not in caplog.text


def test_the_page_says_that_a_camera_is_missing_until_it_delivers_images(cameras):
    port = free_port()
    rig = Rig.model_validate(
        rig_of(*cameras, None).model_dump(exclude_unset=True) | {"sinks": [{"preview": f"http://127.0.0.1:{port}"}]}
    )
    cameras[1].mode = "hang"

    def shown(state):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/rigs", timeout=10) as answer:
                record = json.load(answer)["rigs"]["r"]
        except urllib.error.URLError:
            return None  # it does not listen yet
        missing = any("visible" in text and "not available at the start" in text for text in record["warnings"])
        return missing if record["pairs"].get(state) else None

    pipeline = Pipeline(rig, duration_s=300)
    pipeline.start()
    try:
        wait_for(lambda: shown("single"))
        cameras[1].mode = "video"
        wait_for(lambda: shown("fused") is False)
        assert any("not available at the start" in text for text in pipeline.report().warnings), "of the whole run"
    finally:
        pipeline.drain()
        pipeline.wait(60)
        pipeline.close()


def test_the_address_of_a_camera_without_its_scheme_is_recognised():
    config = Rig.model_validate({"name": "r", "infrared": {"url": "10.0.0.8:554/ir"}, "visible": {"url": "vis.mkv"}})
    with pytest.raises(SourceError, match=r"10\.0\.0\.8:554/ir: no such file .* begins with rtsp:// or http://"):
        make_source(config.infrared, Band.INFRARED, "r")
    with pytest.raises(SourceError, match=r"source\)$"):
        make_source(config.visible, Band.VISIBLE, "r")
