"""Views of a rig's outputs: each output has its own, and they change while the rig runs."""

import av
import cv2
import numpy as np
import pytest

import fusepipe
from fusepipe.config.schema import Rig
from fusepipe.core.errors import ConfigError, UsageError
from fusepipe.core.view_settings import ViewSettings
from fusepipe.rig.factories.sink_views import change_view, make_views
from fusepipe.rig.settings.changes import apply_changes
from fusepipe.rig.settings.setters import SettableParts, setters


def rig_of(tmp_path, *sinks, reference="visible"):
    street = "synthetic://street?duration=200ms&pace=fast"
    return Rig.model_validate(
        {
            "infrared": {"url": f"{street}&band=infrared&size=80x60"},
            "visible": {"url": f"{street}&band=visible&size=160x120"},
            "registration": {"calibration": "synthetic://street"},
            "fusion": {"model": "mean"},
            "sinks": sinks,
            "base_dir": tmp_path,
        }
    )


def images(path):
    with av.open(str(path)) as video:
        return np.stack([frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)])


def test_each_output_has_its_own_view_and_the_others_keep_theirs(tmp_path):
    plain = {"file": "plain.mkv", "codec": "ffv1"}
    fusepipe.Pipeline(rig_of(tmp_path / "alone", plain)).run()
    side = {"file": "side.mkv", "codec": "ffv1", "view": {"mode": "side-by-side"}}
    shown = {"images": "hot", "view": {"mode": "infrared", "palette": "inferno"}}
    fusepipe.Pipeline(rig_of(tmp_path, plain, side, shown)).run()
    alone, beside = images(tmp_path / "alone" / "plain.mkv"), images(tmp_path / "plain.mkv")
    assert np.array_equal(alone, beside), "the fused image is the same, whatever other outputs show"
    assert images(tmp_path / "side.mkv").shape == (5, 120, 320, 3)
    files = sorted((tmp_path / "hot").iterdir())
    hot = cv2.imread(str(files[2]))
    assert len(files) == 5 and hot.shape == (120, 160, 3)
    assert (np.ptp(hot.reshape(-1, 3), axis=1) > 60).mean() > 0.3, "false colours"


def test_a_view_changes_while_the_rig_runs(tmp_path):
    old = rig_of(tmp_path, {"file": "a.mkv"}, {"rtsp": "rtsp://127.0.0.1:1/x"}, {"file": "%H.mkv", "segment": "1h"})
    views = make_views(old, lambda frame: frame)
    assert [view.settings for view in views if view] == [ViewSettings()] * 3

    def changed(**view):
        sinks = [sink.model_dump(include={"file", "rtsp"}) | {"view": view} for sink in old.sinks]
        sinks[2]["segment"] = "1h"
        return rig_of(tmp_path, *sinks)

    wipe = changed(mode="wipe", wipe=0.3)
    assert not any(change_view(wipe, index, views) for index in range(3)), "without a restart"
    assert {view.settings for view in views if view} == {ViewSettings("wipe", wipe=0.3)}
    side = changed(mode="side-by-side")
    with pytest.raises(UsageError, match="a video has one frame size"):
        change_view(side, 0, views)
    assert not change_view(side, 1, views), "the encoder of a stream takes another size"
    assert change_view(side, 2, views), "a new segment"


def test_a_reload_names_what_a_view_is_now(tmp_path):
    old = rig_of(tmp_path, {"file": "a.mkv"})
    views = make_views(old, lambda frame: frame)

    class Runner:
        restartable = False

    parts = SettableParts(lambda metres: None, None, None, None, [Runner()], views)
    new = rig_of(tmp_path, {"file": "a.mkv", "view": {"mode": "blink", "blink": "2s"}})
    running, lines = apply_changes(old, new, setters(old, parts, set()))
    assert lines == ["rig: sinks[0].view.mode: is now blink", "rig: sinks[0].view.blink: is now 2s"]
    assert views[0].settings == ViewSettings("blink", blink_ns=2_000_000_000) and running == new


def test_temperatures_of_a_camera_without_them_are_refused_before_the_run(tmp_path):
    hot = {"file": "a.mkv", "view": {"hot": {"above": "60C"}}}
    with pytest.raises(ConfigError, match=r"sinks\[0\]\.view marks temperatures, but .*give it a radiometry"):
        fusepipe.Pipeline(rig_of(tmp_path, hot)).run()
    assert not list(tmp_path.iterdir())
