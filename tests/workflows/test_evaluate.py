"""``fusepipe evaluate`` as a user calls it: any folders, any number of processes, and what people get wrong."""

import csv
import json
import os

import cv2
import numpy as np
import pytest

from fusepipe.cli import main
from fusepipe.evaluation.metrics.registry import METRICS, names_of


@pytest.fixture
def evaluate(capsys):
    """Calls the command; gives exit code, standard output, standard error."""

    def call(*args):
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", *map(str, args)])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


def image(path, shape=(48, 56), seed=0, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)
    assert cv2.imwrite(str(path), pixels)
    return pixels


@pytest.fixture
def folders(tmp_path):
    """ir/, vis/ and fused/ with three images; the options that name them."""
    for seed, stem in enumerate(("1", "2", "10")):
        for folder, offset in (("ir", 0), ("vis", 10), ("fused", 20)):
            image(tmp_path / folder / f"{stem}.png", seed=seed + offset)
    return ["--ir", tmp_path / "ir", "--vis", tmp_path / "vis", "--fused", tmp_path / "fused", "--jobs", 1]


def test_the_table_has_every_metric_of_the_variant(evaluate, folders):
    code, out, err = evaluate(*folders)
    assert code == 0, err
    for name in names_of("paper"):
        assert f" {name} " in out
    assert "fused: 3 fused images" in out


def test_values_are_those_of_the_functions_in_natural_order(evaluate, folders, tmp_path):
    code, out, _ = evaluate(*folders, "--metrics", "CC,SF", "--json")
    document = json.loads(out)
    assert code == 0 and document["ok"] and list(document["metrics"]) == ["CC", "SF"]
    (method,) = document["sets"][0]["methods"]
    rows = method["images"]
    assert [row["image"] for row in rows] == ["1", "2", "10"]
    for row in rows:
        triple = [cv2.imread(str(tmp_path / f / f"{row['image']}.png"), 0) for f in ("ir", "vis", "fused")]
        assert row["CC"] == METRICS["CC"].function(*triple)
        assert row["SF"] == METRICS["SF"].function(*triple)
    assert method["metrics"]["SF"]["mean"] == pytest.approx(np.mean([r["SF"] for r in rows]), rel=1e-12)
    assert method["metrics"]["SF"]["spread"] == pytest.approx(np.std([r["SF"] for r in rows], ddof=1), rel=1e-12)


def test_several_processes_give_the_same_numbers(evaluate, folders):
    one = json.loads(evaluate(*folders, "--metrics", "MI,SSIM", "--json")[1])
    two = json.loads(evaluate(*folders[:-1], 2, "--metrics", "MI,SSIM", "--json")[1])
    assert one["sets"] == two["sets"]


def test_lone_images_are_named(evaluate, folders, tmp_path):
    image(tmp_path / "ir" / "only_ir.png"), image(tmp_path / "fused" / "only_fused.png")
    code, out, _ = evaluate(*folders, "--metrics", "EN")
    assert code == 0
    assert "no partner for 1 of infrared: only_ir" in out and "no partner for 1 of fused: only_fused" in out


def test_colour_counts_by_its_luma_and_alpha_is_ignored(evaluate, folders, tmp_path):
    pixels = image(tmp_path / "fused" / "1.png", (48, 56, 3), seed=5)
    with_colour = json.loads(evaluate(*folders, "--metrics", "SD", "--json")[1])["sets"][0]["methods"][0]["images"]
    luma = cv2.cvtColor(pixels, cv2.COLOR_BGR2YCrCb)[..., 0]
    assert with_colour[0]["SD"] == pytest.approx(luma.std(), rel=1e-12)
    alpha = np.random.default_rng(6).integers(0, 256, (48, 56, 1), np.uint8)
    cv2.imwrite(str(tmp_path / "fused" / "1.png"), np.concatenate([pixels, alpha], axis=2))
    with_alpha = json.loads(evaluate(*folders, "--metrics", "SD", "--json")[1])["sets"][0]["methods"][0]["images"]
    assert with_alpha == with_colour


def test_metrics_have_no_value_for_images_that_are_too_small(evaluate, tmp_path):
    for folder in ("ir", "vis", "fused"):
        image(tmp_path / folder / "one.png", (1, 1))
    args = ["--ir", tmp_path / "ir", "--vis", tmp_path / "vis", "--fused", tmp_path / "fused"]
    code, out, _ = evaluate(*args, "--metrics", "SSIM,EN", "--json", "--report", tmp_path / "r.csv")
    document = json.loads(out)
    (row,) = document["sets"][0]["methods"][0]["images"]
    assert code == 0 and row == {"image": "one", "SSIM": None, "EN": 0.0}
    assert document["notes"] == ["SSIM: not defined for 1 of 1 images, which are too small for it"]
    assert (tmp_path / "r.csv").read_text().splitlines()[1].split(",")[3:5] == ["", "0.0"]


def test_every_metric_takes_a_one_pixel_pair(evaluate, tmp_path):
    for folder in ("ir", "vis", "fused"):
        image(tmp_path / folder / "one.png", (1, 1))
    args = ["--ir", tmp_path / "ir", "--vis", tmp_path / "vis", "--fused", tmp_path / "fused"]
    assert evaluate(*args, "--variant", "all")[0] == 0


def test_reports_of_file_names_that_are_not_utf8(evaluate, tmp_path):
    """As unpacked from an archive of another system: here GBK."""
    name = os.fsdecode("\u591c\u666f0.png".encode("gbk"))
    for seed, folder in enumerate(("ir", "vis", "fused")):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 56), dtype=np.uint8)
        (tmp_path / folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    reports = [tmp_path / f"report.{suffix}" for suffix in ("html", "csv", "json")]
    options = [option for report in reports for option in ("--report", report)]
    folders = ["--ir", tmp_path / "ir", "--vis", tmp_path / "vis", "--fused", tmp_path / "fused", "--jobs", 1]
    code, _, err = evaluate(*folders, *options, "--metrics", "CC")
    assert code == 0, err
    for report in reports:
        assert "\\udcbe" in report.read_text()


def test_reports(evaluate, folders, tmp_path):
    files = [tmp_path / "new" / f"r.{suffix}" for suffix in ("json", "csv", "html")]
    code, _, err = evaluate(*folders, "--metrics", "MI,CC", *(w for f in files for w in ("--report", f)))
    assert code == 0, err
    document = json.loads(files[0].read_text())
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert [row["image"] for row in rows] == ["1", "2", "10"]
    expected = [row["MI"] for row in document["sets"][0]["methods"][0]["images"]]
    assert [float(row["MI"]) for row in rows] == expected
    assert "fusepipe" in document["versions"] and document["command"].startswith("fusepipe evaluate --ir ")
    assert files[2].read_text().count('<img class="shown"') == 9
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["r.csv", "r.html", "r.json"]
    code, _, err = evaluate(*folders, "--report", files[0])
    assert code == 5 and "--overwrite" in err
    assert evaluate(*folders, "--metrics", "EN", "--report", files[0], "--overwrite")[0] == 0


def test_infrared_images_of_16_bits_are_mapped_as_in_a_run_and_the_report_says_how(evaluate, folders, tmp_path):
    for index, stem in enumerate(("1", "2", "10")):
        counts = 8000 + image(tmp_path / "ir" / f"{stem}.png", seed=index).astype(np.uint16) // 4
        cv2.imwrite(str(tmp_path / "ir" / f"{stem}.png"), counts)
    code, out, err = evaluate(*folders, "--metrics", "MI", "--json")
    assert code == 0, err
    (note,) = [note for note in json.loads(out)["sets"][0]["notes"] if "infrared" in note]
    assert "mapped to 8 bits as in a run: gain control: linear" in note
    code, out, err = evaluate(*folders, "--metrics", "MI", "--range", 7990, 8100)
    assert code == 0 and "as in a run: range 7990 to 8100" in out, err
    code, _, err = evaluate(*folders, "--metrics", "MI", "--range", 7990, 8100, "--agc", "linear")
    assert code == 2 and "remove one of them" in err and err.count("\n") == 1


def spoil(tmp_path, case):
    if case == "sizes":
        image(tmp_path / "fused" / "2.png", (48, 57))
    elif case == "16 bit":
        image(tmp_path / "fused" / "2.png", dtype=np.uint16)
    elif case == "damaged":
        (tmp_path / "vis" / "2.png").write_bytes((tmp_path / "vis" / "2.png").read_bytes()[:60])
    elif case == "nothing in common":
        for file in (tmp_path / "fused").iterdir():
            file.rename(file.with_name(f"fused_{file.name}"))


WRONG = {
    "sizes": ([], 3, "infrared 56x48, visible 56x48, fused 57x48"),
    "16 bit": ([], 3, "2.png: is a 16-bit image"),
    "damaged": ([], 3, "2.png: cannot be used: truncated PNG"),
    "nothing in common": ([], 3, "no image has the same stem"),
    "unknown metric": (["--metrics", "CC,ssim"], 2, "did you mean 'SSIM'?"),
    "unknown variant": (["--variant", "papr"], 2, "did you mean 'paper'?"),
    "no metric": (["--metrics", ","], 2, "name at least one"),
    "unknown report": (["--report", "r.pdf"], 2, ".json, .csv, .html"),
    "no folder": (["--fused", "nowhere"], 3, "nowhere"),
    "a file": (["--ir", __file__], 3, "give the folder of the infrared images"),
}


# the last two are found while processes run
@pytest.mark.parametrize(("case", "jobs"), [*((case, 1) for case in WRONG), ("sizes", 2), ("16 bit", 2)])
def test_mistakes_get_one_clear_line_and_leave_nothing(evaluate, folders, tmp_path, case, jobs):
    spoil(tmp_path, case)
    before = sorted(tmp_path.rglob("*"))
    args, expected, words = WRONG[case]
    code, out, err = evaluate(*folders[:-1], jobs, "--report", tmp_path / "r.html", *args)
    assert code == expected, err
    assert words in err and err.count("\n") == 1 and out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_42_pairs_with_every_metric(evaluate, data_dir, tmp_path):
    """All metrics of all pairs on all available cores; the visible image replaces the fused one."""
    pairs = data_dir / "tno" / "pairs"
    code, out, err = evaluate(
        "--ir", pairs / "ir", "--vis", pairs / "vis", "--fused", pairs / "vis", "--variant", "all", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["sets"][0]["pairs"] == 42
