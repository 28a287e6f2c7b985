"""The preview page: what is answered, and its files."""

import json
import re
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.preview_page import HOST, RECORD, Page, fused_frame
from helpers.waiting import wait_for
from prometheus_client.parser import text_string_to_metric_families

from fusepipe.core.errors import SinkError
from fusepipe.core.frames import PairState
from fusepipe.core.html_pages import style_sheet
from fusepipe.core.view_settings import MODES, PLAIN, AnnotationSettings, HotSettings, ViewSettings
from fusepipe.pipeline.servers.web import rendering
from fusepipe.pipeline.servers.web.page_files import page_files
from fusepipe.pipeline.servers.web.prometheus import prometheus_text
from fusepipe.pipeline.servers.web.view_query import as_query, wanted_view
from fusepipe.pipeline.sinks.live.preview import GENERATED_TOKEN, SERVERS, WebPreviewSink
from fusepipe.pipeline.views.output_view import OutputView

# -- views and metrics


def shown(frame, **settings):
    return rendering.image(frame, OutputView(ViewSettings(**settings)))


def test_views_show_their_content():
    shot = fused_frame()
    level = {mode: shown(shot, mode=mode) for mode in rendering.VIEWS}
    assert tuple(level) == MODES
    assert (level["fused"] == 120).all() and (level["visible"] == 50).all() and (level["infrared"] == 200).all()
    assert len(set(level["overlay"][0, 0].tolist())) == 3, "the infrared image is in false colours"


def test_the_page_passes_each_viewer_own_view():
    assert wanted_view({"view": "side"}) == ViewSettings("side-by-side"), "as earlier versions named it"
    assert wanted_view({"view": "fused", "wipe": "30"}) == PLAIN == wanted_view({})
    asked = {"view": "wipe", "wipe": "30", "palette": "ironbow"}
    assert wanted_view(asked) == ViewSettings("wipe", "ironbow", wipe=0.3)
    assert as_query(wanted_view(asked)) == {**asked, "wipe": 30}
    for name, value in (("view", "x"), ("palette", "jet"), ("wipe", "101"), ("colour", "red"), ("isotherms", "a")):
        with pytest.raises(ValueError, match=f"^{name}: use "):
            wanted_view({name: value})


def test_a_viewer_marks_hot_areas_and_annotates_with_the_spots_of_the_rig_file():
    asked = {"hot": "tint", "above": "60.5", "isotherms": "40,30", "annotate": "time,spots"}
    first = ViewSettings(annotations=AnnotationSettings(spots=((0.5, 0.5),), unit="kelvin", hottest=True))
    view = wanted_view(asked, first)
    assert view.hot == HotSettings(333.65, style="tint") and view.isotherms_k == (303.15, 313.15)
    assert view.annotations == AnnotationSettings(time=True, spots=((0.5, 0.5),), unit="kelvin")
    assert as_query(view) == {"hot": "tint", "above": 60.5, "isotherms": "30,40", "annotate": "time,spots"}
    assert wanted_view({"hot": "outline", "percentile": "95"}).hot == HotSettings(percentile=95.0)
    for query, message in (
        ({"hot": "red"}, "hot: use one of outline, tint"),
        ({"hot": "tint", "above": "-300"}, "above: use degrees"),
        ({"hot": "tint", "percentile": "100"}, "percentile: use an integer from 50 to 99"),
        ({"annotate": "time,x"}, "annotate: 'x' is none of"),
    ):
        with pytest.raises(ValueError, match=message):
            wanted_view(query)


def test_wide_frames_are_downscaled_for_the_page_but_not_for_snapshots():
    wide, fused = fused_frame(shape=(40, 2000)), OutputView()
    small = cv2.imdecode(np.frombuffer(rendering.jpeg(wide, fused), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape[:2] == (26, 1280)
    side = OutputView(ViewSettings("side-by-side"))
    assert cv2.imdecode(np.frombuffer(rendering.png(wide, side), np.uint8), cv2.IMREAD_COLOR).shape == (40, 4000, 3)


def test_metrics_are_valid_for_prometheus():
    text = prometheus_text({'roof "1"': {**RECORD, "clients": 2, "last_frame_age_s": None}}).decode()
    samples = {
        (s.name, *sorted(s.labels.values())): s.value for f in text_string_to_metric_families(text) for s in f.samples
    }
    assert samples[("fusepipe_pairs_total", "fused", 'roof "1"')] == 10
    assert samples[("fusepipe_skipped_total", 'a "quoted"\nreason', 'roof "1"')] == 2
    assert samples[("fusepipe_latency_recent_seconds", "99", 'roof "1"')] == 0.04, "of the last minute"
    assert samples[("fusepipe_latency_seconds_bucket", "0.05", 'roof "1"')] == 9
    assert samples[("fusepipe_latency_seconds_count", 'roof "1"')] == 10
    assert samples[("fusepipe_latency_seconds_sum", 'roof "1"')] == 0.3
    assert samples[("fusepipe_stage_cpu_seconds_total", "fuse", 'roof "1"')] == 1.25
    assert samples[("fusepipe_preview_clients", 'roof "1"')] == 2
    assert {key[-2:]: value for key, value in samples.items() if key[0] == "fusepipe_drift_state"} == {
        ("ok", 'roof "1"'): 0,
        ('roof "1"', "suspect"): 1,
        ("lost", 'roof "1"'): 0,
    }
    assert samples[("fusepipe_drift_offset_pixels", 'roof "1"')] == 1.8
    assert samples[("fusepipe_drift_blind_total", 'roof "1"')] == 2
    assert not [key for key in samples if key[0] == "fusepipe_last_frame_age_seconds"]
    assert prometheus_text({"new": {}})


# -- the server


def test_the_skew_of_a_held_pair_is_not_plotted():
    """The frame that is repeated for a standing camera is seconds old."""
    fused = fused_frame()
    pair = replace(fused.pair, state=PairState.HELD, skew_ns=-900_000_000)
    with Page(frame=replace(fused, pair=pair, state=PairState.HELD)) as page:
        wait_for(lambda: page.get("/readyz")[0] == 200)
        past = json.loads(page.get("/api/rigs?rig=roof&since=0")[1])["past"]
    assert past[0] == [1, None, "held"]


def test_the_routes_of_the_page():
    with Page() as page:
        wait_for(lambda: page.get("/readyz")[0] == 200)
        status, body, headers = page.get("/")
        assert status == 200 and b"fusepipe" in body
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert page.get("/page.js")[0] == page.get("/page.css")[0] == 200
        data = json.loads(page.get("/api/rigs?rig=roof&since=0")[1])
        assert data["rigs"]["roof"]["pairs"] == RECORD["pairs"] and data["rigs"]["roof"]["state"] == "fused"
        assert data["past"][0] == [1, 2.0, "fused"]
        assert json.loads(page.get(f"/api/rigs?rig=roof&since={data['past'][-1][0] + 10**6}")[1])["past"] == []
        status, body, headers = page.get("/rigs/roof/snapshot.png?view=infrared")
        assert "roof_infrared_" in headers["Content-Disposition"]
        assert (cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_GRAYSCALE) == 200).all()
        assert b'fusepipe_pairs_total{rig="roof",state="fused"} 10.0' in page.get("/metrics")[1]
        assert page.get("/healthz")[0] == 200
        wrong = ["/nope", "/rigs/other/snapshot.png", "/rigs/roof/snapshot.png?view=x", "/rigs/roof/live.mjpg?wipe=101"]
        assert [page.get(path)[0] for path in wrong] == [404, 404, 400, 400]
        assert page.get("/", Host="evil.example")[0] == 403
        assert page.get("/", Origin="http://evil.example")[0] == 403
        with pytest.raises(SinkError, match="a rig 'roof' is already on this page"):
            WebPreviewSink(HOST, page.port, "roof", dict).start()
        with Page(rig="mast", port=page.port):
            assert list(json.loads(page.get("/api/rigs")[1])["rigs"]) == ["roof", "mast"]
        assert list(json.loads(page.get("/api/rigs")[1])["rigs"]) == ["roof"]
    assert page.report.frames > 0 and not SERVERS.has(HOST, page.port)
    assert not [t for t in threading.enumerate() if t.name.startswith("preview-")]


def test_motion_jpeg_and_its_limits():
    with Page(max_clients=1) as page:
        with urllib.request.urlopen(f"http://{HOST}:{page.port}/rigs/roof/live.mjpg?view=visible", timeout=15) as live:
            assert live.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
            for _ in range(3):
                assert live.readline() == b"--frame\r\n"
                assert live.readline() == b"Content-Type: image/jpeg\r\n"
                size = int(live.readline().split(b":")[1])
                live.readline()
                pixels = cv2.imdecode(np.frombuffer(live.read(size), np.uint8), cv2.IMREAD_GRAYSCALE)
                assert pixels.shape == (48, 64) and abs(int(pixels.mean()) - 50) <= 1
                assert live.readline() == b"\r\n"
            assert page.get("/rigs/roof/live.mjpg")[0] == 503, "one may watch"
        wait_for(lambda: json.loads(page.get("/api/rigs")[1])["rigs"]["roof"]["clients"] == 0)


def test_a_page_that_others_reach_needs_its_token():
    with Page("0.0.0.0") as page:
        assert page.sink.announcement.endswith(f"/?token={GENERATED_TOKEN}")
        assert GENERATED_TOKEN not in page.sink.label
        assert page.get("/")[0] == 401 and page.get("/metrics")[0] == 401 and page.get("/healthz")[0] == 200
        assert page.get("/?token=wrong")[0] == 401
        assert page.get("/metrics", Authorization=f"Bearer {GENERATED_TOKEN}")[0] == 200

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.build_opener(Stay).open(f"http://{HOST}:{page.port}/?token={GENERATED_TOKEN}", timeout=15)
        with caught.value as answer:
            cookie = answer.headers["Set-Cookie"]
            assert answer.code == 303 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert GENERATED_TOKEN not in cookie, "the cookie ends with the session, the token does not"
        assert page.get("/", Cookie=cookie.partition(";")[0])[0] == 200
        assert page.get("/", Cookie=f"{cookie.partition('=')[0]}={GENERATED_TOKEN}")[0] == 401
        with pytest.raises(SinkError, match="different tokens"):
            WebPreviewSink("0.0.0.0", page.port, "mast", dict, token="another-token").start()


def test_large_requests_and_stuck_clients_are_cut_off(monkeypatch):
    monkeypatch.setattr("fusepipe.pipeline.servers.web.server.SEND_S", 0.5)
    with Page() as page:
        assert page.get("/", Cookie="a=" + "b" * 20_000)[0] in (400, 431)
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            stuck.connect((HOST, page.port))
            stuck.sendall(f"GET /rigs/roof/live.mjpg HTTP/1.1\r\nHost: {HOST}:{page.port}\r\n\r\n".encode())
            clients = lambda: json.loads(page.get("/api/rigs")[1])["rigs"]["roof"]["clients"]  # noqa: E731
            wait_for(lambda: clients() == 1)
            assert page.get("/healthz")[0] == 200, "others are served meanwhile"


def test_the_page_loads_nothing_from_other_sites():
    """No address of another server in what is served: it works where there is no internet."""
    for name, (text, _) in page_files().items():
        assert "http" not in text and "//" not in text.replace("// ", ""), name


def test_the_page_has_the_skeleton_and_the_style_sheet_of_all_pages():
    """Its own files have no colours but black behind the video; its policy is a header, so that no script is inline."""
    files = {name: text for name, (text, _) in page_files().items()}
    assert files["style.css"] == style_sheet() and '<link rel="stylesheet" href="style.css">' in files[""]
    assert '<meta name="color-scheme" content="light dark">' in files[""], "of the skeleton"
    assert "<script>" not in files[""] and "<style>" not in files[""]
    own = "".join(files[name] for name in ("page.css", "page.js"))
    assert set(re.findall(r"#(?:[0-9a-f]{8}|[0-9a-f]{6}|[0-9a-f]{3,4})\b", own, re.IGNORECASE)) == {"#000"}
    used, known = (
        set(re.findall(pattern, text))
        for pattern, text in ((r"var\((--[a-z-]+)", own), (r"(--[a-z-]+):", files["style.css"]))
    )
    assert used and used <= known
