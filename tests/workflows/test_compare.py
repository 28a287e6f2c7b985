"""``fusepipe compare`` as a user calls it, on small pairs and by rules that need no network."""

import csv
import json
import math

import cv2
import numpy as np
import pytest

from fusepipe.cli import main
from fusepipe.core.errors import EngineError
from fusepipe.evaluation.baselines.trivial import TRIVIAL_RULES, sum_rule
from fusepipe.evaluation.metrics.flow_difference import FlowReference
from fusepipe.evaluation.metrics.registry import METRICS
from fusepipe.evaluation.metrics.temporal import TemporalReference
from fusepipe.evaluation.report.published import table1, table2
from fusepipe.evaluation.scores import leaders, shown, summary
from fusepipe.rig.factories.fusers import load_fuser


@pytest.fixture
def compare(capsys):
    """Calls the command; gives exit code, standard output, standard error."""

    def call(*args):
        with pytest.raises(SystemExit) as stopped:
            main(["compare", *map(str, args)])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


def pairs(folder, count=3, shape=(64, 80), seed=0):
    """A smooth scene that moves, seen by two cameras with noise of their own."""
    rng = np.random.default_rng(seed)
    scene = cv2.GaussianBlur(rng.uniform(0, 255, (shape[0], shape[1] + 40)), (0, 0), 4)
    scene = 30 + 180 * (scene - scene.min()) / np.ptp(scene)
    for band, flip in (("ir", 1), ("vis", -1)):
        (folder / band).mkdir(parents=True)
        for index in range(count):
            part = scene[:, index : index + shape[1]]
            image = (part if flip > 0 else 0.5 * part + 60) + rng.normal(0, 4, shape)
            cv2.imwrite(str(folder / band / f"{index}.png"), np.clip(image, 0, 255).astype(np.uint8))
    return folder


def test_the_trivial_rules_are_always_there_and_apart(compare, tmp_path):
    code, out, err = compare("--data", pairs(tmp_path / "d"), "--models", "pyramid", "--jobs", 1, "--json")
    assert code == 0, err
    (found,) = json.loads(out)["sets"]
    methods = found["methods"]
    assert [m["method"] for m in methods] == ["pyramid", *TRIVIAL_RULES]
    assert [m["reference"] for m in methods] == [False, True, True, True]
    assert all(m["ms_per_pair"]["images"] == 3 and m["ms_per_pair"]["mean"] > 0 for m in methods)
    assert all(len(m["images"]) == 3 for m in methods)


def test_values_are_those_of_the_fused_images(compare, tmp_path):
    folder = pairs(tmp_path / "d", 1)
    out = compare("--data", folder, "--models", "mean", "--metrics", "SCD,CC", "--jobs", 1, "--json")[1]
    document = json.loads(out)
    assert document["title"] == "Trivial fusion rules on d", "there is no method beside them"
    ir, vis = (cv2.imread(str(folder / band / "0.png"), 0) for band in ("ir", "vis"))
    row = document["sets"][0]["methods"][-1]["images"][0]
    assert row["SCD"] == METRICS["SCD"].function(ir, vis, sum_rule(ir, vis))
    assert "CC_bound" in document["metrics"]
    assert row["CC"] <= row["CC_bound"] + 1e-9


def test_sum_wins_scd_and_the_table_says_so(compare, tmp_path):
    code, out, _ = compare(
        "--data", pairs(tmp_path / "d"), "--models", "pyramid,max", "--metrics", "SCD,CC", "--jobs", 1
    )
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("│ sum "))
    assert "°" in line
    assert "│ bound" in out and "a trivial rule is better" in out


def test_the_sum_rule_by_hand():
    ir, vis = np.array([[0, 100]], np.uint8), np.array([[50, 250]], np.uint8)
    # the mean of all four values is 100: 0 + 50 - 100 and 100 + 250 - 100
    assert sum_rule(ir, vis).tolist() == [[0, 250]]


def test_best_and_second_follow_the_direction():
    means = {"a": 1.0, "b": 3.0, "c": 2.0, "d": None}
    assert leaders(means, METRICS["MI"]) == ({"b"}, {"c"})
    assert leaders(means, METRICS["MSE"]) == ({"a"}, {"c"})
    assert leaders({"a": 1.0, "b": 1.0, "c": 0.5}, METRICS["MI"]) == ({"a", "b"}, set())
    assert leaders({"a": 1.0}, METRICS["MI"]) == leaders(means, METRICS["CC_bound"]) == (set(), set())


def test_mean_and_spread_by_hand():
    found = summary([1.0, None, 3.0])
    assert (found.mean, found.spread, found.min, found.max, found.count) == (2.0, math.sqrt(2.0), 1.0, 3.0, 2)
    assert summary([None]) is None and summary([5.0]).spread == 0.0
    infinite = summary([1.0, math.inf])
    assert infinite.mean == math.inf and math.isnan(infinite.spread)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (1.2345, "1.234"), (12.345, "12.35"), (1234.5, "1234"), (None, "–"), (math.inf, "∞")],
)
def test_numbers_as_tables_show_them(value, text):
    assert shown(value) == text


def test_sequences_get_tr_and_luminance_excess(compare, tmp_path):
    folder = tmp_path / "clips"
    pairs(folder / "one", 4), pairs(folder / "two", 3, seed=1)
    document = json.loads(compare("--data", folder, "--models", "mean", "--metrics", "EN", "--jobs", 1, "--json")[1])
    assert [s["set"] for s in document["sets"]] == ["one", "two"] and all(s["sequence"] for s in document["sets"])
    frames = [[cv2.imread(str(folder / "one" / band / f"{i}.png"), 0) for i in range(4)] for band in ("ir", "vis")]
    fused = [sum_rule(i, v) for i, v in zip(*frames, strict=True)]
    expected, flow = TemporalReference(*frames).score(fused), FlowReference(frames[1]).score(fused)
    found = document["sets"][0]["methods"][-1]["temporal"]
    assert found == {
        "TR": expected.ratio,
        "LE": expected.luminance_excess,
        "flowD": flow.difference,
        "flowD_SD": flow.relative,
    }
    assert set(document["sequence_metrics"]) == set(found)
    stills = json.loads(compare("--data", folder, "--models", "mean", "--metrics", "EN", "--stills", "--json")[1])
    assert stills["sets"][0]["methods"][0]["temporal"] == {}
    chosen = json.loads(compare("--data", folder, "--sets", "two", "--limit", 2, "--models", "mean", "--json")[1])
    assert [(s["set"], s["pairs"]) for s in chosen["sets"]] == [("two", 2)]


def test_images_of_several_sizes_are_not_a_sequence(compare, tmp_path):
    folder = pairs(tmp_path / "clips" / "one", 3)
    for band in ("ir", "vis"):
        cv2.imwrite(str(folder / band / "9.png"), np.zeros((50, 50), np.uint8))
    document = json.loads(compare("--data", tmp_path / "clips", "--models", "mean", "--metrics", "EN", "--json")[1])
    assert not document["sets"][0]["sequence"] and "treated as stills" in document["sets"][0]["notes"][0]


def test_methods_are_ranked_over_metrics_in_every_report(compare, tmp_path):
    folder = tmp_path / "clips"
    pairs(folder / "one", 2), pairs(folder / "two", 2, seed=1)
    report = [tmp_path / f"r.{kind}" for kind in ("json", "csv", "html")]
    arguments = ("--data", folder, "--models", "pyramid", "--metrics", "MI,CC,MSE", "--jobs", 1)
    code, out, err = compare(*arguments, *(part for path in report for part in ("--report", path)))
    assert code == 0, err
    document = json.loads(report[0].read_text())
    assert document["ranked_by"] == ["MI", "CC", "MSE"]
    for found in document["sets"]:
        means = {m["method"]: {n: v["mean"] for n, v in m["metrics"].items()} for m in found["methods"]}
        entries = found["ranking"]
        assert [entry["mean_rank"] for entry in entries] == sorted(entry["mean_rank"] for entry in entries)
        for entry in entries:
            mine = means[entry["method"]]
            assert entry["ranks"]["MI"] == 1 + sum(other["MI"] > mine["MI"] for other in means.values())
            assert entry["ranks"]["MSE"] == 1 + sum(other["MSE"] < mine["MSE"] for other in means.values())
            assert entry["mean_rank"] == pytest.approx(sum(entry["ranks"].values()) / 3)
    over = document["mean_rank_over_sets"]
    first = {entry["method"]: entry["mean_rank"] for entry in document["sets"][0]["ranking"]}
    second = {entry["method"]: entry["mean_rank"] for entry in document["sets"][1]["ranking"]}
    assert over == pytest.approx({name: (first[name] + second[name]) / 2 for name in first})
    assert "one: mean rank" in out and "mean rank over 2 sets" in out and "mean rank: over MI, CC, MSE" in out
    rows = list(csv.DictReader((tmp_path / "r.methods.csv").read_text().splitlines()))
    assert [(row["set"], float(row["mean_rank"])) for row in rows if row["method"] == "max"] == [
        ("one", first["max"]),
        ("two", second["max"]),
    ]
    assert float(rows[0]["flowD"]) > 0 and float(rows[0]["rank_MI"]) >= 1
    page = report[2].read_text()
    assert page.count("<h3>Mean rank</h3>") == 2 and "All sets" in page


def test_ties_are_named(compare, tmp_path):
    for band in ("ir", "vis"):  # equal sources: every rule gives them back
        (tmp_path / "d" / band).mkdir(parents=True)
        image = np.random.default_rng(0).integers(0, 255, (48, 48)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "d" / band / "0.png"), image)
    arguments = ("--data", tmp_path / "d", "--models", "mean", "--metrics", "MI,MSE", "--jobs", 1)
    out = compare(*arguments)[1]
    assert "MSE: tied: mean, max" in out and "1.5=" in out
    (entry, *_) = json.loads(compare(*arguments, "--json")[1])["sets"][0]["ranking"]
    assert entry["tied"]["MI"] == ["max"] and entry["ranks"]["MI"] == 1.5 and entry["place"] == 1


def test_the_table_by_method_is_not_overwritten(compare, tmp_path):
    (tmp_path / "r.methods.csv").write_text("mine")
    arguments = ("--data", pairs(tmp_path / "d", 1), "--models", "mean", "--report", tmp_path / "r.csv")
    code, _, err = compare(*arguments)
    assert code != 0 and "r.methods.csv: already exists" in err and (tmp_path / "r.methods.csv").read_text() == "mine"


def detector_file(path, sides=(64, 96), output=(1, 126, 85)):
    """A network in YOLOX's format that sees one person in every image, whatever is in it."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    values = np.zeros(output, np.float32)
    values[0, 0, :6] = (3.0, 2.0, math.log(2), math.log(3), 1.0, 0.9)  # centre (24, 16), size (16, 24) of the input
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["largest"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["largest", "zero"], ["none"]),
        helper.make_node("Add", ["seen", "none"], ["output"]),
    ]
    constants = [numpy_helper.from_array(values, "seen"), numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    taken = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, *sides])
    given = helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, list(output))
    graph = helper.make_graph(nodes, "fixed", [taken], [given], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_detector_scores_sources_and_methods(compare, tmp_path):
    folder = pairs(tmp_path / "d", 3, shape=(64, 96))
    (folder / "labels").mkdir()
    (folder / "labels" / "0.txt").write_text(f"7 {24 / 96} {16 / 64} {16 / 96} {24 / 64}\n")  # that very person
    (folder / "labels" / "1.txt").write_text(
        f"7 0.8 0.8 0.1 0.1\n7 {24 / 96} {16 / 64} {16 / 96} {24 / 64}\n9 0 0 0 0\n"
    )
    report = [tmp_path / f"r.{kind}" for kind in ("json", "csv", "html")]
    options = ["--data", folder, "--models", "max", "--metrics", "EN", "--jobs", 1]
    options += ["--detector", detector_file(tmp_path / "d.onnx")]
    code, out, err = compare(*options)
    assert code == 2 and "what the class numbers mean is not known: give --labels-map d:0=person" in err
    options += ["--labels-map", "7=person"]
    code, out, err = compare(*options, *(part for path in report for part in ("--report", path)))
    assert code == 0, err
    (found,) = json.loads(report[0].read_text())["sets"]
    assert list(found["detection"]) == ["infrared", "visible", "mean", "max", "sum"]
    for row in found["detection"].values():
        # two of three labelled persons are found, and nothing else; the third pair has no labels
        assert row["ap50"] == {"person": pytest.approx(2 / 3)}
        assert row["recall"]["either"] == {"found": 1, "of": 1}
    assert "d: detection" in out and "2 of 3 pairs have labels" in out and "0.667" in out and "1/1" in out
    rows = list(csv.DictReader((tmp_path / "r.methods.csv").read_text().splitlines()))
    assert {row["AP50 person"][:5] for row in rows} == {"0.666"} and rows[0]["persons of either"] == "1/1"
    assert "<h3>Detection</h3>" in report[2].read_text()


def test_detections_of_several_sets_are_scored_together_too(compare, tmp_path):
    for name in ("one", "two"):
        pairs(tmp_path / "clips" / name, 2, shape=(64, 96))
    detector = detector_file(tmp_path / "d.onnx")
    options = ("--data", tmp_path / "clips", "--models", "max", "--metrics", "EN", "--detector", detector, "--json")
    document = json.loads(compare(*options)[1])
    assert document["detection_over_sets"]["max"]["recall"]["infrared"] == {"found": 4, "of": 4}


class Failing:
    """A fuser that breaks at its second pair."""

    def __init__(self, inner):
        self.inner, self.info, self.calls = inner, inner.info, 0

    def prepare(self, *shape):
        pass

    def fuse(self, ir, vis):
        self.calls += 1
        if self.calls > 2:  # the first pair is fused twice
            raise EngineError("out of memory")
        return self.inner.fuse(ir, vis)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.inner.close()


@pytest.mark.parametrize("when", ["load", "fuse"])
def test_a_model_that_fails_is_reported_and_the_others_continue(compare, tmp_path, monkeypatch, when):

    def broken(model):
        if model != "stream":
            return load_fuser(model)
        if when == "load":
            raise EngineError("there are no weights for 'stream'")
        return Failing(load_fuser("mean"))

    monkeypatch.setattr("fusepipe.workflows.compare.load_fuser", broken)
    args = ["--data", pairs(tmp_path / "d"), "--models", "stream,pyramid", "--metrics", "EN", "--jobs", 1]
    code, out, err = compare(*args, "--report", tmp_path / "r.json", "--report", tmp_path / "r.html")
    assert code == 4 and err.startswith("fusepipe: error: stream: ") and err.count("\n") == 1
    assert "│ pyramid" in out and "│ stream" not in out
    document = json.loads((tmp_path / "r.json").read_text())
    assert list(document["unavailable"]) == ["stream"]
    assert 'data-method="stream"' not in (tmp_path / "r.html").read_text()
    document = json.loads(compare(*args, "--json")[1])
    assert not document["ok"] and document["exit_code"] == 4
    assert document["errors"][0]["message"].startswith("stream: ")


def test_table_1_next_to_the_printed_values(compare, tmp_path, monkeypatch):
    # what is tested is the table, not how long its methods take
    monkeypatch.setattr("fusepipe.workflows.compare.load_fuser", lambda model: load_fuser("mean"))
    for name in ("nato_camp", "tree", "duine"):
        pairs(tmp_path / "tno" / "sequences" / name, 2)
    code, out, err = compare("--preset", "paper-table1", "--data", tmp_path / "tno", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert [s["set"] for s in document["sets"]] == ["nato_camp", "tree", "duine"]
    printed = {m["method"]: m.get("printed") for m in document["sets"][2]["methods"]}
    assert printed["mfe" if "mfe" in printed else "stream"]["SCD"] == 1.93 and printed["mean"] is None
    assert {"MI", "CC", "VIF", "Qabf", "SCD", "SSIM", "CC_bound"} == set(document["metrics"])


def test_the_presets_use_what_models_there_are():
    everything = ("stream", "mfe", "cbf", "gtf", "jsrsd", "fusiongan", "ddcgan")
    assert table1(everything).models == ("cbf", "gtf", "jsrsd", "fusiongan", "ddcgan", "mfe")
    early = table1(("stream", "mean"))
    assert early.models == ("stream",) and set(early.missing) == {"cbf", "gtf", "jsrsd", "fusiongan", "ddcgan"}
    assert early.printed["tree", "stream", "MI"] == 2.59 and len(early.printed) == 90
    ablation = table2(("stream",))
    assert ablation.models == () and len(ablation.missing) == 4 and len(ablation.printed) == 24


WRONG = {
    "unknown model": (["--data", "d", "--models", "strem"], 2, "did you mean 'stream'"),
    "no data": (["--models", "mean"], 2, "--data"),
    "no folder": (["--data", "nowhere"], 3, "nowhere"),
    "no pairs": (["--data", "empty"], 3, "contains neither ir/ and vis/"),
    "unknown set": (["--data", "clips", "--sets", "three"], 3, "it has one"),
    "unknown preset": (["--preset", "paper-table3"], 2, "did you mean 'paper-table"),
    "preset and models": (["--preset", "paper-table1", "--models", "mean"], 2, "cannot be combined"),
    "no TNO": (["--data", "tno"], 2, "fusepipe data tno"),
    "sizes": (["--data", "sizes"], 3, "sizes/1: images of one pair have to be of one size"),
    "labels without a detector": (["--data", "d", "--labels-map", "0=person"], 2, "--labels-map is for --detector"),
    "no detector": (["--data", "d", "--detector", "nowhere.onnx"], 2, "nowhere.onnx"),
    "detector and preset": (["--preset", "paper-table1", "--detector", "other.onnx"], 2, "cannot be combined"),
    "not YOLOX": (["--data", "d", "--detector", "other.onnx"], 2, "not a YOLOX detector: with an input of 96x64"),
    "not ONNX": (["--data", "d", "--detector", "text.onnx"], 4, "text.onnx: is not an ONNX file"),
    "unknown metric": (["--data", "d", "--metrics", "CCC"], 2, "CC"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_get_one_clear_line(compare, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSEPIPE_TNO", str(tmp_path / "not-there"))
    (tmp_path / "empty").mkdir()
    pairs(tmp_path / "d", 1), pairs(tmp_path / "clips" / "one", 1), pairs(tmp_path / "sizes", 2)
    cv2.imwrite(str(tmp_path / "sizes" / "ir" / "1.png"), np.zeros((9, 9), np.uint8))
    detector_file(tmp_path / "other.onnx", output=(1, 100, 85))
    (tmp_path / "text.onnx").write_text("no network")
    args, expected, words = WRONG[case]
    code, out, err = compare(*args)
    assert code == expected, err
    assert words in err and err.count("\n") == 1 and out == ""


def test_a_report_shows_the_attention_of_models_that_have_one(compare, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fusepipe.workflows.compare.ATTENTION", {"stream": "stream"}
    )  # any network of two images to one
    page = tmp_path / "page.html"
    arguments = ("--models", "stream,pyramid", "--metrics", "CC", "--jobs", 1, "--report", page)
    code, _, err = compare("--data", pairs(tmp_path / "d"), *arguments)
    assert code == 0, err
    assert 'alt="attention of stream"' in page.read_text() and 'alt="attention of pyramid"' not in page.read_text()


def test_infrared_images_of_16_bits_are_mapped_once_for_all_methods(compare, tmp_path):
    pairs(tmp_path)
    for path in sorted((tmp_path / "ir").iterdir()):
        counts = 8000 + 2 * cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16)
        assert cv2.imwrite(str(path), counts)
    code, out, err = compare("--data", tmp_path, "--models", "mean", "--metrics", "MI,EN", "--jobs", 1, "--json")
    assert code == 0, err
    (result,) = json.loads(out)["sets"]
    assert [note for note in result["notes"] if "as in a run: gain control: linear" in note]
    code, out, err = compare("--data", tmp_path, "--models", "mean", "--metrics", "MI", "--jobs", 1, "--agc", "off")
    assert code == 0 and "as in a run: full range" in out, err
    code, _, err = compare("--preset", "paper-table1", "--data", tmp_path, "--agc", "off")
    assert code == 2 and "--agc and --preset cannot be combined" in err
