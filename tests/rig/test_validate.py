"""The examples, the JSON schema, the reference page and ``fusepipe validate`` as a new user meets them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fusepipe.cli import main
from fusepipe.config.json_schema import json_schema
from fusepipe.config.rig_file import load_rig_file
from fusepipe.core.errors import ConfigError
from fusepipe.core.yaml_models import read_yaml

ROOT = Path(__file__).parents[1].parent
EXAMPLES = [ROOT / "rigs.yaml", *sorted((ROOT / "docs" / "rigs").glob("*.yaml"))]
ENVIRON = {
    "TNO": "/data/tno",
    "CAM_USER": "ann",
    "CAM_PASSWORD": "hunter2",
    "INFRARED": "rtsp://127.0.0.1/infrared",
    "VISIBLE": "rtsp://127.0.0.1/visible",
}


def validate(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["validate", *args])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples_are_valid_by_the_loader_and_by_the_schema(file: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    assert [error.message for error in validator.iter_errors(read_yaml(file).root.data())] == []
    document = load_rig_file(file)
    assert [rig.name for rig in document.select(None, ENVIRON)] == list(document.names)


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("sync", {"tolerance": "20ms"}, True),
        ("sync", {"tolerance": 0}, True),
        ("sync", {"tolerance": "${T}"}, True),
        ("sync", {"tolerance": 20}, False),
        ("sync", {"tolerance": "20"}, False),
        ("sync", {"tolerance": "-20ms"}, False),
        ("sync", {"offset": "-20ms"}, True),
        ("sync", {"tolerence": "20ms"}, False),
        ("sync", {"tolerance_ns": 20}, False),
        ("fusion", {"device": 0}, True),
        ("fusion", {"device": -1}, False),
        ("output", {"hot_overlay": "off"}, True),
        ("output", {"hot_overlay": False}, False),
        ("infrared", {"url": "x", "fps": "${FPS:-25}"}, True),
        ("infrared", {"url": "x", "fps": 0}, False),
        ("infrared", {"url": "x", "range": [1, 2]}, True),
        ("infrared", {"url": "x", "range": [1, 70000]}, False),
        ("infrared", {"url": "x", "range": [1]}, False),
        ("sinks", [{"file": "a.mkv", "quality": 52}], False),
        ("sinks", [{"file": "a.mkv", "images": "b"}], False),
        ("sinks", [{"fil": "a.mkv"}], False),
        ("sinks", [{"file": "a.mkv", "flush": 0}], False),
        ("name", "x", False),
    ],
)
def test_the_schema_agrees_with_the_loader(tmp_path: Path, key: str, value: Any, valid: bool) -> None:
    rig = {"infrared": {"url": "i"}, "visible": {"url": "v"}, "sinks": [{"images": "o"}], key: value}
    data = {"schema": 1, "rigs": {"a": rig}}
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(data) == valid
    file = tmp_path / "rigs.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")  # JSON is YAML
    (checked,) = load_rig_file(file).check(None, {"T": "3ms"})
    assert (not checked.problems) == valid


WRONG: tuple[Any, ...] = (None, True, 0, -1, 1e99, "", "x", "20ms", "${X}", "rtsp://a", [], [1, "x"], {}, {"url": 3})


def test_any_wrong_value_at_any_place_is_a_problem_with_a_line_or_fine(tmp_path: Path) -> None:
    """Every value of the example with live cameras, replaced by every kind of wrong value."""
    data = read_yaml(ROOT / "docs" / "rigs" / "roof.yaml").root.data()
    file = tmp_path / "rigs.yaml"
    tried, refused = 0, list[ConfigError]()
    for path in list(places(data)):
        for wrong in WRONG:
            changed = json.loads(json.dumps(data))
            holder = changed
            for part in path[:-1]:
                holder = holder[part]
            holder[path[-1]] = wrong
            file.write_text(json.dumps(changed), encoding="utf-8")
            tried += 1
            try:
                load_rig_file(file).select(None, ENVIRON)
            except ConfigError as error:
                refused.append(error)
    assert len(refused) > 0.9 * tried
    for refusal in refused:
        assert refusal.problems
        assert all(problem.line == 1 and problem.message for problem in refusal.problems)
        assert len(str(refusal).splitlines()) == len(refusal.problems)
    assert tried > 300


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def test_the_schema_is_a_schema_and_every_key_has_a_description() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, model in {"": schema, **schema["$defs"]}.items():
        for key, spec in model.get("properties", {}).items():
            described = spec if "description" in spec else schema["$defs"][spec.get("$ref", "").rpartition("/")[2]]
            assert described["description"].endswith((".", "?")), f"{name}.{key}"
            assert "`" not in described["description"]


def test_the_reference_has_a_row_for_every_key() -> None:
    """Of a model that no page lists, all keys would be missing."""
    pages = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("rigs", "rig-cameras", "rig-outputs"))
    tables = [set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) for section in pages.split("\n## ")]
    schema = json_schema()
    keys = {name: set(model["properties"]) for name, model in schema["$defs"].items() if "properties" in model}
    assert {name: rows for name, rows in keys.items() if rows not in tables} == {}


def test_the_reference_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_config_reference", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_validate_the_projects_own_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = "rigs.yaml: ok, 1 rig: demo (synthetic://street 320x240 + synthetic://street 640x480 -> out/demo.mkv)\n"
    assert validate(capsys) == (0, text, "")
    assert validate(capsys, "--name", "demo")[0] == 0
    code, out, _ = validate(capsys, "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["file"], document["problems"]) == (0, True, "rigs.yaml", [])
    assert [rig["name"] for rig in document["rigs"]] == ["demo"]
    code, out, err = validate(capsys, "--name", "dmeo")
    assert (code, out) == (2, "")
    assert err == "fusepipe: error: rigs.yaml:4: rigs: unknown rig 'dmeo' (did you mean 'demo'?)\n"


def test_validate_reports_typos_with_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "rigs.yaml").read_text(encoding="utf-8")
    file = tmp_path / "my.yaml"
    file.write_text(text.replace("model:", "modle:").replace("sinks:", "sink:"), encoding="utf-8")
    code, out, err = validate(capsys, str(file))
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"fusepipe: error: {file}:3: defaults.fusion.modle: unknown key (did you mean 'model'?)",
        f"fusepipe: error: {file}:9: rigs.demo.sink: unknown key (did you mean 'sinks'?)",
    ]
    code, out, err = validate(capsys, "--json", str(file))
    assert (code, err) == (2, "")
    first = json.loads(out)["problems"][0]
    assert first == {
        "file": str(file),
        "line": 3,
        "column": 12,
        "key": "defaults.fusion.modle",
        "message": "unknown key (did you mean 'model'?)",
    }


def test_validate_without_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = validate(capsys)
    assert (code, out) == (2, "")
    assert err.startswith("fusepipe: error: rigs.yaml: there is no such file; ")
    assert "fusepipe validate --schema" in err
    code, out, _ = validate(capsys, "--json")
    assert (code, json.loads(out)["ok"], json.loads(out)["problems"][0]["line"]) == (2, False, 0)


def test_a_password_that_is_a_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAM_USER", raising=False)
    monkeypatch.delenv("CAM_PASSWORD", raising=False)
    for words in ([], ["--name", "roof"]):
        _, out, err = validate(capsys, str(ROOT / "docs" / "rigs" / "live.yaml"), *words)
        assert "needs the environment variable CAM_PASSWORD, which is not set" in out + err
    monkeypatch.setenv("CAM_USER", "admin")
    monkeypatch.setenv("CAM_PASSWORD", "geheim99")
    code, out, err = validate(capsys, str(ROOT / "docs" / "rigs" / "live.yaml"), "--name", "roof")
    assert code == 0 and "rtsp://***@10.0.0.8/ir" in out and "geheim99" not in out + err


def test_validate_and_variables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("TNO", raising=False)
    code, out, err = validate(capsys, "docs/rigs/tno-nato.yaml")
    assert (code, err) == (0, "")
    assert "note: docs/rigs/tno-nato.yaml:" in out and "needs the environment variable TNO, which is not set" in out
    code, out, err = validate(capsys, "docs/rigs/tno-nato.yaml", "--name", "tno-nato")
    assert (code, out) == (2, "")
    assert "rigs.tno-nato.infrared.url: needs the environment variable TNO" in err
    monkeypatch.setenv("TNO", "/data/tno")
    assert validate(capsys, "docs/rigs/tno-nato.yaml", "--name", "tno-nato")[0] == 0


def test_validate_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = validate(capsys, "--schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == json_schema()


def test_help_of_validate_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom fusepipe.cli import main\n"
        "try:\n    main(['validate', '--help'])\nexcept SystemExit:\n    pass\n"
        "print({'numpy', 'pydantic', 'ruamel', 'cv2', 'av', 'openvino', 'torch'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_options_of_a_synthetic_scene_are_checked_with_their_place(tmp_path):
    path = tmp_path / "rigs.yaml"
    path.write_text(
        "schema: 1\nrigs:\n  a:\n    infrared: {url: 'synthetic://street?fsp=9'}\n"
        "    visible: {url: 'synthetic://stret'}\n    sinks: [{file: a.mkv}]\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "fusepipe", "validate", str(path)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert f"{path}:4" in result.stderr and "fps" in result.stderr
    assert f"{path}:5" in result.stderr and "street" in result.stderr
