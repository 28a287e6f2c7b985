"""A live camera that repeats one image: gst-rtsp-server as both cameras, recorded with a sidecar."""

import json
import signal
import threading
import time

import pytest
from helpers.waiting import wait_for
from peers.cameras import MISSING, RtspCamera, gst_rtsp_server

from fusepipe import Pipeline, load_rig

RIG = """
schema: 1
rigs:
  r:
    infrared: {{url: "{infrared}"}}
    visible: {{url: "{visible}"}}
    sync: {{max_hold: 1s}}
    fusion: {{model: mean}}
    sinks: [{{file: out.mkv, sidecar: on}}]
"""

FROZEN = "the image of the infrared camera is frozen: its frames repeat one image"

pytestmark = pytest.mark.skipif(not gst_rtsp_server(), reason=MISSING)


@pytest.fixture
def cameras():
    made = [RtspCamera(size="160x120", fps=15, life_s=60), RtspCamera(size="160x120", fps=15, life_s=60)]
    yield made
    for camera in made:
        camera.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1], ids=["infrared", "visible"])
def test_a_frozen_camera_is_held_with_its_true_time_and_then_left_out(cameras, tmp_path, number):
    """Its image freezes for five seconds while its timestamps and its key frames continue."""
    path = tmp_path / "rigs.yaml"
    path.write_text(RIG.format(infrared=cameras[0].url, visible=cameras[1].url))
    pipeline = Pipeline(load_rig(path), duration_s=11)
    pipeline.start()
    toggles = [threading.Timer(at_s, cameras[number].send, (signal.SIGUSR1,)) for at_s in (3, 8)]
    for toggle in toggles:
        toggle.start()
    assert pipeline.wait(60)
    for toggle in toggles:
        toggle.join()
    pipeline.raise_error()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    states = [line["state"] for line in lines]
    band = ("infrared", "visible")[number]
    connected = states.index("fused")  # one camera may deliver its first frame before the other
    assert connected < 15 and states[-1] == "fused"
    lines = lines[connected:]
    held = [line for line in lines if line["state"] == "held"]
    times = {line[band]["capture_s"] for line in held[:-2]}
    assert len(held) > 5 and len(times) <= 4, "the times of the frames that were truly captured"
    assert max(line["capture_s"] - line[band]["capture_s"] for line in held) < 1.5
    alone = [line for line in lines if line["state"] == "single"]
    assert len(alone) > 20 and {line[band] is None for line in alone} == {True}
    assert pipeline.report().live["cameras"][band]["freezes"] >= 1


@pytest.mark.slow
def test_log_and_status_say_that_a_camera_is_frozen(cameras, tmp_path, caplog):
    caplog.set_level("INFO", "fusepipe")
    path = tmp_path / "rigs.yaml"
    path.write_text(RIG.format(infrared=cameras[0].url, visible=cameras[1].url))
    pipeline = Pipeline(load_rig(path))
    pipeline.start()
    toggle = threading.Timer(3, cameras[0].send, (signal.SIGUSR1,))
    toggle.start()
    deadline = time.monotonic() + 20
    while "r: infrared: frozen" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.05)
    toggle.join()
    wait_for(lambda: FROZEN in pipeline.report().status.reasons, 10)
    assert max(pipeline.report().skew_ms.values()) < 100, "of fused pairs; held ones were a second apart"
    pipeline.drain()
    assert pipeline.wait(20)
    assert "r: infrared: frozen: every frame of the last 1." in caplog.text
    assert "freeze_detection: off" in caplog.text
