"""A rig that is not running is listed on its page with its state and reason, and the page is not ready."""

import json
import urllib.error
import urllib.request

import pytest
from helpers.ports import free_port

from fusepipe.core.errors import SinkError
from fusepipe.core.rig_state import RigState, RigStatus
from fusepipe.pipeline.sinks.live.preview import SERVERS, PreviewStatus, WebPreviewSink

HOST = "127.0.0.1"
FAILED = RigStatus(RigState.FAILED, ("rtsp://camera/x: authentication failed",), failed_starts=2, retry_at_s=1e9)


def get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=15) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def rigs(port: int) -> dict:
    return json.loads(get(port, "/api/rigs")[1])["rigs"]


def test_a_failed_rig_is_listed_with_its_reason_before_any_rig_has_frames():
    port, now = free_port(), [FAILED]
    listed = PreviewStatus(HOST, port, "roof", lambda: now[0])
    try:
        record = rigs(port)["roof"]
        assert record["status"] == {
            "state": "failed",
            "reasons": ["rtsp://camera/x: authentication failed"],
            "failed_starts": 2,
            "retry_at_s": 1e9,
        }
        assert record["ready"] is False
        assert get(port, "/readyz")[0] == 503 and get(port, "/metrics")[0] == 200
        now[0] = RigStatus(RigState.STARTING)
        assert rigs(port)["roof"]["status"]["state"] == "starting" and get(port, "/readyz")[0] == 503
    finally:
        listed.close()
    assert not SERVERS.has(HOST, port)


def test_rigs_keep_their_order_and_a_running_one_has_its_record_too():
    port, now = free_port(), RigStatus(RigState.RUNNING, failed_starts=1)
    listed = [PreviewStatus(HOST, port, "roof", lambda: FAILED), PreviewStatus(HOST, port, "yard", lambda: now)]
    sink = WebPreviewSink(HOST, port, "yard", lambda: {"rig": "yard", "seconds": 5.0, "status": {"state": "running"}})
    try:
        sink.start()
        records = rigs(port)
        assert list(records) == ["roof", "yard"]
        assert records["yard"]["seconds"] == 5.0 and records["yard"]["status"]["failed_starts"] == 1
    finally:
        sink.close()
        assert rigs(port)["yard"]["status"]["state"] == "running", "listed while its output is restarted"
        for one in listed:
            one.close()


def test_two_rigs_of_one_name_or_with_different_tokens_are_refused():
    port = free_port()
    listed = PreviewStatus(HOST, port, "roof", lambda: FAILED, token="s3cret-s3cret")
    try:
        with pytest.raises(SinkError, match="already on this page"):
            PreviewStatus(HOST, port, "roof", lambda: FAILED, token="s3cret-s3cret")
        with pytest.raises(SinkError, match="different tokens"):
            PreviewStatus(HOST, port, "yard", lambda: FAILED, token="other-s3cret")
        with pytest.raises(SinkError, match="different tokens"):
            WebPreviewSink(HOST, port, "yard", dict).start()
        assert get(port, "/api/rigs")[0] == 401, "protected before any rig has started"
    finally:
        listed.close()
