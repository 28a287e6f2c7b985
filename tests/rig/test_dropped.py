"""Dropped frames in words: by the stage that was too slow, not by the name of a queue."""

from fusepipe.rig.report.dropped import dropped_texts

SINKS = [{"sink": "roof.mkv"}, {"sink": "rtsp://0.0.0.0:8554/roof"}]


def test_each_queue_is_named_by_what_it_waits_for_and_outputs_by_their_name():
    counts = {"infrared": 1, "visible": 2, "paired": 1, "registered": 50, "sink-2": 9}
    assert dropped_texts(counts, SINKS) == [
        "1 infrared frame before pairing",
        "2 visible frames before pairing",
        "1 pair before registration",
        "50 pairs before fusion",
        "9 frames before rtsp://0.0.0.0:8554/roof",
    ]


def test_what_the_drift_watch_has_no_time_for_is_no_loss():
    assert dropped_texts({"drift": 40}, SINKS) == dropped_texts({}, SINKS) == []
