"""Reading YAML with line numbers: accepted and rejected files, and one-line errors."""

import math
import random
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from fusepipe.core.errors import ConfigError
from fusepipe.core.yaml_models import parse_yaml, read_yaml, validate_model
from fusepipe.core.yaml_tree import MAX_BYTES

LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: off", {"a": "off"}),
        ("a: on\nb: yes\nc: No", {"a": "on", "b": "yes", "c": "No"}),
        ("a: true\nb: FALSE", {"a": True, "b": False}),
        ("a: 012\nb: 0o17\nc: 0x1F\nd: 1_000", {"a": 12, "b": 15, "c": 31, "d": "1_000"}),
        ("a: 1.5\nb: -.5\nc: 1e3\nd: .inf\ne: -.INF", {"a": 1.5, "b": -0.5, "c": 1e3, "d": math.inf, "e": -math.inf}),
        ("a: 20:30\nb: 2024-01-01", {"a": "20:30", "b": "2024-01-01"}),
        ("a:\nb: ~\nc: null\nd: ''", {"a": None, "b": None, "c": None, "d": ""}),
        ("a: \"1\"\nb: 'true'", {"a": "1", "b": "true"}),
        ("1: x\noff: y", {"1": "x", "off": "y"}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}", {"c": {"p": 1, "q": 2}}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("%YAML 1.1\n---\na: yes", {"a": "yes"}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_reads_the_core_schema_of_yaml_1_2(tmp_path: Path, text: str, data: dict[str, object]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text, encoding="utf-8")
    read = read_yaml(file).root.data()
    assert {key: read[key] for key in data} == data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: is empty"),
        ("# only a comment\n", "f.yaml: is empty"),
        ("- a\n- b\n", "f.yaml:1: should hold keys and values"),
        ("just words", "f.yaml:1: should hold keys and values"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: duplicate key: first on line 1"),
        ("x:\n  y: {k: 1, k: 2}", "f.yaml:2: x.y.k: duplicate key"),
        ("a:\n\tb: 1", "f.yaml:2: a tab; indent with spaces"),
        ("a: [1,\nb: 2", "f.yaml:2: an unclosed bracket or brace"),
        ("a: 'x\n", "an unclosed quotation mark"),
        ("a: b: c", "f.yaml:1: a second ': ' in one value"),
        ("a: 1\n b: 2", "f.yaml:2: "),
        ("a: @x", "f.yaml:1: a value starts with a character that YAML reserves; quote the text"),
        ("a: {url: ${X}/y, z: 1}", "f.yaml:1: is not YAML here; quote values that hold ${NAME}"),
        ("a: 1\n---\nb: 2", "f.yaml:2: a second document (---) starts here"),
        ("---\n---\n", "f.yaml:2: a second document"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1: tags (!...) are not used here"),
        ("a: !!int 3", "f.yaml:1: tags"),
        ("a: &a [*a]", "f.yaml:1: an alias (*name) inside its own value"),
        ("a: &a {b: *a}", "f.yaml:1: an alias"),
        ("<<: 3", "f.yaml:1: << takes a mapping"),
        ("? [1, 2]\n: 3", "f.yaml:1: a key should be a scalar"),
        ("a: x\x07y", "f.yaml:1: has a control character"),
        (LAUGHS, "expands to more than 300000 values"),
        ("a: " + "[" * 500, "f.yaml:1: "),
        ("a: " + "[" * 500 + "]" * 500, "f.yaml:1: is nested deeper than 50 levels"),
        ("\n".join("  " * i + "k:" for i in range(400)), "is nested deeper than 50 levels"),
    ],
)
def test_refuses_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f.yaml")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["a: *hunter2", "a: !hunter2 x", "a: !hunter2!x y", "a: @hunter2", "a: 'hunter2", "a: hunter2: x"]
)
def test_syntax_errors_do_not_show_the_text_which_may_be_a_password(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f.yaml")
    assert "hunter2" not in str(caught.value)


def test_files_that_are_not_a_configuration(tmp_path: Path) -> None:
    cases = {
        "missing.yaml": "there is no such file; look there",
        "folder": "is a folder",
        "binary": ":2: is not UTF-8 text",
    }
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"a: 1\nb: \xff\xfe")
    (tmp_path / "huge").write_bytes(b"a: 1\n" + b"#" * MAX_BYTES)
    cases["huge"] = "is larger than 1 MiB"
    for name, expected in cases.items():
        with pytest.raises(ConfigError) as caught:
            read_yaml(tmp_path / name, advice="look there")
        assert str(caught.value).startswith(str(tmp_path / name))
        assert expected in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml("a\0b")


def test_damaged_text_never_raises_anything_but_a_config_error() -> None:
    """Random edits of a valid file: it is read, or rejected in one line."""
    source = Path(__file__).parents[1].parent.joinpath("docs/rigs/roof.yaml").read_text(encoding="utf-8")
    random_ = random.Random(7)
    refused = []
    for _ in range(150):
        text = list(source)
        for _ in range(random_.randint(1, 6)):
            place = random_.randrange(len(text))
            text[place : place + random_.randint(0, 4)] = random_.choice("{}[]:,&*!|>'\"%@`#-? \n\t~<$")
        try:
            parse_yaml("".join(text), "f.yaml")
        except ConfigError as error:
            refused.append(str(error))
    assert refused
    assert not [message for message in refused if "\n" in message]


class Lens(BaseModel):
    model_config = ConfigDict(extra="forbid")
    focal_px: float
    matrix: tuple[tuple[float, float], ...] = ()


class Camera(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lens: Lens
    kind: int | Lens = 1
    lenses: dict[str, Lens] = {}


def test_validates_any_model_with_all_problems_at_once(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "lens: {focal: x, matrix: [[1, 2], [a, 4]]}\nlenses:\n  left: 3\n  right: {focal_px: big}\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError) as caught:
        validate_model(Camera, read_yaml(file))
    lines = [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems]
    assert lines == [
        "1: lens.focal: unknown key (did you mean 'focal_px'?)",
        "1: lens.matrix[1][0]: should be a number (got 'a')",
        "3: lenses.left: should hold keys and values (key: value) (got 3)",
        "4: lenses.right.focal_px: should be a number (got 'big')",
    ]
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    assert [problem.column for problem in caught.value.problems] == [8, 36, 3, 11]


def test_gives_the_model_of_a_valid_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("lens: {focal_px: 500}\n", encoding="utf-8")
    assert validate_model(Camera, read_yaml(file)).lens.focal_px == 500.0
