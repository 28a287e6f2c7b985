"""The alert rules and the dashboard of docs/monitoring: valid, and every metric in them is one that a rig has."""

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from helpers.ports import free_port
from helpers.waiting import wait_for
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

import fusepipe
from fusepipe.config.schema import Rig
from fusepipe.pipeline.servers.web.prometheus import prometheus_text

DOCS = Path(__file__).resolve().parents[3] / "docs"
FOLDER = DOCS / "monitoring"
RULES, TESTS = FOLDER / "fusepipe.rules.yml", FOLDER / "fusepipe.rules.test.yml"
DASHBOARD = FOLDER / "fusepipe.dashboard.json"
NAME = re.compile(r"\b(?:fusepipe|process)_[a-z0-9_]+\b")
# samples of network cameras, thermal cores, overload and skipped frames only; the families are in every output
CONDITIONAL = {
    "fusepipe_camera_failures_total",
    "fusepipe_camera_flat_field_correction",
    "fusepipe_camera_flat_field_corrections_total",
    "fusepipe_camera_sensor_celsius",
    "fusepipe_lighter_model",
    "fusepipe_skipped_total",
}


def promtool(*words: str | Path, text: bytes = b"") -> str:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool (apt-get install prometheus)")
    ran = subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True, timeout=60)
    assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()
    return ran.stdout.decode()


def expressions() -> list[str]:
    rules = [rule["expr"] for group in YAML(typ="safe").load(RULES)["groups"] for rule in group["rules"]]
    board = json.loads(DASHBOARD.read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    shown += [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    return rules + shown


@pytest.fixture(scope="module")
def metrics() -> str:
    """The metrics of a live rig that runs."""
    port, common = free_port(), "pace=real&fps=25&duration=10min"
    rig = Rig.model_validate(
        {
            "name": "roof",
            "infrared": {"url": f"synthetic://street?band=infrared&size=80x60&{common}"},
            "visible": {"url": f"synthetic://street?band=visible&size=160x120&{common}"},
            "registration": {"calibration": "synthetic://street", "drift": "watch"},
            "fusion": {"model": "mean"},
            "sinks": [{"preview": f"http://127.0.0.1:{port}"}],
        }
    )

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as answer:
            return answer.read().decode()

    pipeline = fusepipe.Pipeline(rig)
    pipeline.start()
    try:
        wait_for(lambda: pipeline.report().pairs.get("fused", 0) > 30, 60)
        wait_for(lambda: 'fusepipe_camera_up{band="infrared",rig="roof"} 1.0' in read(), 30)
        return read()
    finally:
        pipeline.drain()
        pipeline.wait(60)


def test_every_metric_of_the_rules_and_the_dashboard_is_in_a_real_output(metrics):
    present = {sample.name for family in text_string_to_metric_families(metrics) for sample in family.samples}
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(used) > 20
    assert used - present - CONDITIONAL == set()
    assert all(f"# TYPE {name} " in metrics for name in CONDITIONAL)


def test_a_running_rig_has_its_state_cameras_outputs_and_histograms(metrics):
    found = {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "rig")): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert found["fusepipe_rig_state", "running"] == 1 and found["fusepipe_rig_state", "failed"] == 0
    assert found["fusepipe_pair_state", "fused"] == 1
    assert found["fusepipe_camera_up", "infrared"] == found["fusepipe_camera_up", "visible"] == 1
    (sink,) = [key[1] for key in found if key[0] == "fusepipe_frames_out_total"]
    assert sink.startswith("http://127.0.0.1:") and found["fusepipe_frames_out_total", sink] >= 25
    assert found["fusepipe_latency_seconds_bucket", "+Inf"] == found["fusepipe_latency_seconds_count",]
    assert found["fusepipe_latency_seconds_count",] >= 25 and found["fusepipe_latency_seconds_sum",] > 0
    assert found["fusepipe_skew_seconds_count",] >= 25
    assert next(key[1:] for key in found if key[0] == "fusepipe_build_info")[1] == fusepipe.__version__
    assert found["fusepipe_overloaded",] == 0


def test_the_page_about_monitoring_lists_every_metric():
    families = {line.split()[2] for line in prometheus_text({}).decode().splitlines() if line.startswith("# TYPE fuse")}
    listed = set(re.findall(r"`(fusepipe_[a-z0-9_]+)`", (DOCS / "monitoring.md").read_text()))
    assert families == listed


def test_promtool_accepts_rules_their_tests_and_the_metrics(metrics):
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", TESTS)
    promtool("check", "metrics", text=metrics.encode())


def test_the_telemetry_of_a_thermal_core_is_in_the_metrics() -> None:
    core = {"ffc": "in progress", "fpa_c": 31.5, "ffcs": 2}
    text = prometheus_text({"roof": {"sources": {"infrared": {"telemetry": core}, "visible": {}}}}).decode()
    assert 'fusepipe_camera_flat_field_correction{band="infrared",rig="roof"} 1.0' in text
    assert 'fusepipe_camera_flat_field_corrections_total{band="infrared",rig="roof"} 2.0' in text
    assert 'fusepipe_camera_sensor_celsius{band="infrared",rig="roof"} 31.5' in text
