"""Several rigs in one process: one that cannot start, hangs or fails is named at once, shown, retried, and alone."""

import json
import os
import re
import shutil
import signal
import socket
import urllib.error
import urllib.request

import pytest
from helpers.ports import free_port
from helpers.rig_process import RigProcesses, wait_for
from peers.http_camera import HttpCamera

STREET = "synthetic://street?band={}&pace=real&size=160x120&duration=1h"


def rig(name, *sinks, infrared=None, visible=None):
    one, other = infrared or STREET.format("infrared"), visible or STREET.format("visible")
    return f"""
  {name}:
    infrared: {{url: "{one}"}}
    visible: {{url: "{other}"}}
    fusion: {{model: mean}}
    sinks: [{", ".join(sinks)}]
"""


def rig_file(*rigs):
    return "schema: 1\nrigs:" + "".join(rigs)


class Process:
    """A run of a rig file, its log, and what its page says on ``port``."""

    def __init__(self, folder):
        self.port = free_port()
        self.preview = f'{{preview: "http://127.0.0.1:{self.port}"}}'
        self._folder = folder
        self._processes = RigProcesses(folder)

    def start(self, text, *words, **options):
        self.process = self._processes.start(text, *words, **options)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def wait_for(self, condition):
        wait_for(lambda: condition() or self.process.poll() is not None, self._folder)
        assert condition(), self.log

    @property
    def log(self):
        return (self._folder / "log").read_text()

    @property
    def report(self):
        return json.loads((self._folder / "out").read_text())

    def get(self, path, token=""):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    def rig(self, name):
        status, text = self.get("/api/rigs")
        return json.loads(text)["rigs"].get(name, {}) if status == 200 else {}

    def state(self, name):
        return self.rig(name).get("status", {}).get("state")

    def close(self):
        self._processes.close()


@pytest.fixture
def run(tmp_path):
    process = Process(tmp_path)
    yield process
    process.close()


def frames(folder):
    return len(list(folder.glob("*.png")))


def test_a_rig_with_a_wrong_password_is_named_at_once_and_shown_as_failed(run, tmp_path):
    with HttpCamera("unauthorized") as camera:
        broken = rig("roof", "{images: roof}", run.preview, visible=camera.url)
        run.start(rig_file(broken, rig("yard", "{images: yard}", run.preview), rig("gate", "{images: gate}")), "--json")
        run.wait_for(lambda: "roof: " in run.log and frames(tmp_path / "yard") and frames(tmp_path / "gate"))
        assert re.search(r"^\d\d:\d\d:\d\d roof: http://127.0.0.1.*authentication failed", run.log, re.M), run.log
        assert re.search(r"roof: cannot start; retrying in 3\d\.\d s", run.log), "not so often that it is locked out"
        run.wait_for(lambda: run.rig("yard").get("ready"))
        status = run.rig("roof")["status"]
        assert status["state"] == "failed" and "authentication failed" in status["reasons"][0]
        assert status["failed_starts"] == 1 and status["retry_at_s"] > 0
        assert run.state("yard") == "running"
        assert run.get("/readyz")[0] == 503
        assert run.end() == 0, "its failure is no failure of stopping"
    record = run.report
    assert [r["rig"] for r in record["rigs"]] == ["roof", "yard", "gate"]
    assert [r["status"]["state"] for r in record["rigs"]] == ["failed", "stopped", "stopped"]
    assert record["errors"][0]["message"].startswith("roof: http://127.0.0.1") and record["exit_code"] == 0


def test_the_generated_token_of_a_page_without_running_rigs_is_shown(run, tmp_path):
    with HttpCamera("unauthorized") as camera:
        page = run.preview.replace("127.0.0.1", "0.0.0.0")
        run.start(rig_file(rig("roof", page, infrared=camera.url), rig("yard", "{images: yard}")))
        run.wait_for(lambda: "roof: preview on" in run.log)
        (token,) = re.findall(rf"roof: preview on http://0\.0\.0\.0:{run.port}/\?token=(\S+)$", run.log, re.M)
        assert run.get("/api/rigs")[0] == 401
        status, text = run.get("/api/rigs", token)
        assert status == 200 and json.loads(text)["rigs"]["roof"]["status"]["state"] == "failed"
        assert run.end() == 0
    assert run.log.count("roof: preview on") == 1
    assert run.log.count("0.0.0.0 is every address of this machine") <= 1, "none without a network"


def test_a_rig_that_could_not_start_joins_the_others_when_it_can(run, tmp_path):
    with HttpCamera("no video") as camera:
        broken = rig("roof", "{images: roof}", run.preview, infrared=camera.url)
        run.start(rig_file(broken, rig("yard", "{images: yard}")))
        # each attempt connects twice: for a stream, and for single images
        run.wait_for(lambda: run.log.count("roof: cannot start; retrying in") == 1 and camera.connections >= 3)
        assert run.state("roof") == "failed", "also during the next attempt"
        run.wait_for(lambda: run.rig("roof")["status"]["failed_starts"] >= 2)
        camera.mode = "video"
        run.wait_for(lambda: frames(tmp_path / "roof") > 5 and run.get("/readyz")[0] == 200)
        assert re.search(r"roof: started after \d+\.\d s", run.log)
        assert run.log.count("roof: cannot start") == 1, "the same reason is logged once"
        assert run.end(signal.SIGINT) == 130
    assert "roof: did not start" not in (tmp_path / "out").read_text()


def test_a_hanging_camera_holds_up_no_other_rig(run, tmp_path):
    """Opening both of its cameras takes 20 s: longer than the others take to start."""
    with HttpCamera("hang") as camera:
        slow = rig("roof", "{images: roof}", infrared=camera.url, visible=camera.url)
        slow = slow.replace('/video"', '/video", open_timeout: 10s')
        run.start(rig_file(slow, rig("yard", "{images: yard}"), rig("gate", "{images: gate}")))
        run.wait_for(lambda: frames(tmp_path / "yard") and frames(tmp_path / "gate"))
        assert camera.connections == 1 and not (tmp_path / "roof").exists()
        assert run.end() == 0, "the one that was starting is not waited for"


def test_a_reload_starts_a_rig_that_could_not_start(run, tmp_path):
    with HttpCamera("unauthorized") as wrong, HttpCamera("video") as right:
        yard = rig("yard", "{images: yard}")
        run.start(rig_file(rig("roof", "{images: roof}", run.preview, infrared=wrong.url), yard))
        run.wait_for(lambda: "roof: cannot start" in run.log and frames(tmp_path / "yard"))
        text = rig_file(rig("roof", "{images: roof}", run.preview, infrared=right.url), yard)
        (tmp_path / "rigs.yaml").write_text(text)
        run.process.send_signal(signal.SIGHUP)
        run.wait_for(lambda: frames(tmp_path / "roof") > 5 and run.state("roof") in ("running", "degraded"))
        assert "reload: roof: starting with the new settings" in run.log
        assert run.end() == 0


def test_a_rig_that_ends_with_an_error_is_named_at_once_and_shown_as_failed(run, tmp_path):
    """Its only recording has a fixed name, so that it cannot be started again in its place."""
    run.start(rig_file(rig("roof", "{file: rec/a.mkv}"), rig("yard", "{images: yard}")), "--json")
    run.wait_for(lambda: (tmp_path / "rec" / "a.partial.mkv").exists() and frames(tmp_path / "yard"))
    (tmp_path / "rec" / "a.partial.mkv").unlink()
    run.wait_for(lambda: re.search(r"^\d\d:\d\d:\d\d roof: .*a\.mkv", run.log, re.M))
    seen = frames(tmp_path / "yard")
    run.wait_for(lambda: frames(tmp_path / "yard") > seen + 10)
    assert run.end() == 0
    assert [r["status"]["state"] for r in run.report["rigs"]] == ["failed", "stopped"]


def test_where_no_rig_can_start_the_run_ends_with_the_first_error(run, tmp_path):
    with HttpCamera("unauthorized") as camera:
        run.start(
            rig_file(*(rig(name, f"{{images: {name}}}", infrared=camera.url) for name in ("roof", "yard"))), "--json"
        )
        assert run.process.wait(timeout=60) == 3
    errors = [error["message"] for error in run.report["errors"]]
    assert [text.partition(": ")[0] for text in errors] == ["roof", "yard"]


def test_every_log_line_of_a_rig_has_its_name(run, tmp_path):
    with HttpCamera("video") as camera:
        run.start(rig_file(rig("roof", "{images: roof}", infrared=camera.url), rig("yard", "{images: yard}")))
        run.wait_for(lambda: frames(tmp_path / "roof") > 5)
        camera.mode = "unauthorized"
        camera.drop()
        run.wait_for(lambda: "authentication failed" in run.log and "single" in run.log)
        assert run.end() == 0
    lines = [line for line in run.log.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(lines) >= 4
    assert [line for line in lines if not re.match(r"\d\d:\d\d:\d\d (roof|yard): ", line)] == []


def test_a_recording_whose_folder_is_removed_goes_on_in_a_new_one(run, tmp_path):
    with HttpCamera("video") as camera:
        sink = '{file: "rec/%H-%M-%S.mkv", segment: 1h}'
        run.start(rig_file(rig("roof", sink, infrared=camera.url, visible=camera.url)), "--json")
        run.wait_for(lambda: [file for file in (tmp_path / "rec").glob("*.partial.mkv") if file.stat().st_size])
        first = next((tmp_path / "rec").glob("*.partial.mkv"))
        shutil.rmtree(tmp_path / "rec")
        run.wait_for(lambda: "recovered after" in run.log)
        assert re.search(r"roof: .*removed, moved or replaced while it was being written; other outputs", run.log)
        assert "what was written is in" not in run.log
        assert run.end() == 0
    (record,) = run.report["rigs"]
    (video,) = (tmp_path / "rec").glob("*.mkv")
    assert video.name != first.name and record["sinks"][0]["restarts"] == 1


def test_systemd_is_ready_with_the_first_rig_and_shows_which_have_failed(run, tmp_path):
    with HttpCamera("unauthorized") as camera, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        text = rig_file(rig("roof", "{images: roof}", infrared=camera.url), rig("yard", "{images: yard}"))
        run.start(text, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        received = [listening.recv(4096).decode()]
        while not received[-1].endswith("STATUS=failed roof; running yard"):
            received.append(listening.recv(4096).decode())
        assert received[0].startswith("READY=1\nSTATUS=") and received[0].endswith("running yard")
        assert run.end() == 0
