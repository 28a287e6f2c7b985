"""Files of rigs: mistakes with line and nearest key, defaults, variables, secrets."""

from pathlib import Path
from typing import Any

import pytest
from helpers.rig_files import RIG, in_rig, problems, rig_of, write
from pydantic import ValidationError

from fusepipe.config.rig_file import load_rig_file
from fusepipe.config.schema import FileSink, ImagesSink, Rig, SourceConfig, SyncConfig
from fusepipe.config.unsupported import unavailable
from fusepipe.core.errors import ConfigError
from fusepipe.core.frames import Band


def test_values_and_defaults(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, "sync: {tolerance: 5ms, offset: -3 ms, max_wait: 0, reference: infrared}")
    assert (rig.sync.tolerance_ns, rig.sync.offset_ns, rig.sync.max_wait_ns) == (5_000_000, -3_000_000, 0)
    assert rig.sync.reference is Band.INFRARED
    assert (rig.sync.max_hold_ns, rig.sync.on_missing, rig.sync.pair_by) == (2_500_000_000, "hold", "auto")
    assert (rig.fusion.model, rig.fusion.backend, rig.fusion.precision, rig.fusion.engine) == (
        "stream",
        "auto",
        "auto",
        None,
    )
    assert (rig.output.colour, rig.output.hot_overlay, rig.registration.drift) == ("visible", "off", "off")
    sink = rig.sinks[0]
    assert isinstance(sink, FileSink)
    assert (sink.chosen_codec, sink.crf, sink.preset, sink.flush_ns) == ("h264", 20, "superfast", 1_000_000_000)
    assert (rig.name, rig.infrared.fps, rig.infrared.count_range, rig.infrared.latency_ns) == ("one", None, None, 0)


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    odd = tmp_path / "100% sure"
    odd.mkdir()
    rig = rig_of(odd, "registration: {calibration: ../c.yaml}", "{file: 'rec/%Y-%m.mkv'}, {images: ~/out}")
    assert rig.base_dir == odd
    assert rig.infrared.url == f"{odd}/ir.mkv"
    assert rig.registration.calibration == f"{tmp_path}/c.yaml"
    video, images = rig.sinks
    # the folder's own percent sign is not part of the pattern
    assert isinstance(video, FileSink) and video.file == f"{tmp_path}/100%% sure/rec/%Y-%m.mkv"
    assert isinstance(images, ImagesSink) and images.images == f"{tmp_path}/home/out"
    text = RIG.replace("ir.mkv", "file:///data/a%20b.mkv").replace("vis.mkv", "/abs/vis").replace("SECTION", "")
    urls = load_rig_file(write(tmp_path, text.replace("SINK", "{images: o}"))).select()[0]
    assert (urls.infrared.url, urls.visible.url) == ("/data/a b.mkv", "/abs/vis")
    assert (
        rig_of(tmp_path, "registration: {calibration: 'synthetic://street'}").registration.calibration
        == "synthetic://street"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rigs: {}\n", "1: schema: is missing; write 'schema: 1' as the first line"),
        ("schema: 2\nrigs: {a: {}}\n", "1: schema: should be 1 (got 2)"),
        ("schema: 1\n", "1: rigs: is missing"),
        ("schema: 1\nrigs: {}\n", "2: rigs: "),
        ("schema: 1\nrig: {a: {}}\n", "2: rig: unknown key (did you mean 'rigs'?)"),
        ("schema: 1\ndefault: {}\nrigs: {a: {}}\n", "2: default: unknown key (did you mean 'defaults'?)"),
        (
            "schema: 1\ndefaults: {fuson: {}}\nrigs: {a: {}}\n",
            "2: defaults.fuson: unknown key (did you mean 'fu",
        ),
        ("schema: 1\ndefaults: {fusion: stream}\nrigs: {a: {}}\n", "2: defaults.fusion: should hold keys and values"),
        ("schema: 1\nrigs:\n  - name: a\n", "2: rigs: should hold keys and values"),
        ("schema: 1\nrigs:\n  a:\n", "3: rigs.a: should hold keys and values"),
        ("schema: 1\nrigs:\n  a/b: {}\n", "3: rigs.a/b: a rig name is at most 64 letters"),
        ("schema: 1\nrigs:\n  a:\n    infrared: {url: x}\n", "3: rigs.a.visible: is missing"),
    ],
)
def test_frame_of_the_file(tmp_path: Path, text: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(tmp_path, text))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("visble: {}", "6: rigs.one.visble: unknown key"),
        ("fusoin: {model: mean}", "6: rigs.one.fusoin: unknown key (did you mean 'fusion'?)"),
        ("name: x", "6: rigs.one.name: unknown key"),
        ("base_dir: /", "6: rigs.one.base_dir: unknown key"),
        ("sync: {tolerence: 20ms}", "6: rigs.one.sync.tolerence: unknown key (did you mean 'tolerance'?)"),
        ("sync: {max-wait: 20ms}", "6: rigs.one.sync.max-wait: unknown key (did you mean 'max_wait'?)"),
        ("sync: {tolerance_ns: 20}", "6: rigs.one.sync.tolerance_ns: unknown key (did you mean 'tolerance'?)"),
        ("sync: {tolerance: 20}", "6: rigs.one.sync.tolerance: needs a unit: say 20ms or 20s (got 20)"),
        ("sync: {tolerance: -20ms}", "6: rigs.one.sync.tolerance: should not be negative (got '-20ms')"),
        (
            "sync: {on_missing: Hold}",
            "6: rigs.one.sync.on_missing: should be 'hold', 'interpolate', 'drop' or 'single' (got 'Hold'",
        ),
        (
            "sync: {reference: vis}",
            "6: rigs.one.sync.reference: should be 'infrared' or 'visible' (got 'vis'",
        ),
        ("sync: [tolerance]", "6: rigs.one.sync: should hold keys and values (key: value) (got a list of 1)"),
        ("registration: {drift: false}", "(got false); write off"),
        ("output: {hot_overlay: false}", "should be 'off' or 'on' (got false); write off"),
        ("output: {color: grey}", "6: rigs.one.output.color: unknown key (did you mean 'colour'?)"),
        ("output: {colour: gray}", "did you mean 'grey'?"),
        (
            "fusion: {model: steam}",
            "fusion.model: unknown model (did you mean 'stream'?) (got 'steam')",
        ),
        ("fusion: {backend: openvno}", "did you mean 'openvino'?"),
        ("fusion: {precision: 32}", "(got 32)"),
        ("registration: {calibration: 'rtsp://x'}", "should be a calibration file"),
        ("registration: {plane_distance: 30}", "needs a unit: say 30m or 30cm (got 30)"),
        ("fusion: {model: }", "6: rigs.one.fusion.model: should be text (got nothing)"),
    ],
)
def test_mistakes_in_a_rig(tmp_path: Path, section: str, expected: str) -> None:
    (problem,) = in_rig(tmp_path, section)
    assert expected in problem


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{ulr: ir.mkv}", ["4: rigs.one.infrared.ulr: unknown key (did you mean 'url'?)"]),
        ("{}", ["4: rigs.one.infrared.url: is missing"]),
        ("ir.mkv", ["4: rigs.one.infrared: should hold keys and values (key: value) (got 'ir.mkv')"]),
        ("{url: 0}", ["4: rigs.one.infrared.url: should be text (got 0)"]),
        ("{url: ''}", ["4: rigs.one.infrared.url: is empty (got '')"]),
        ("{url: 'rstp://x'}", ["has an unknown URL scheme rstp:// (did you mean 'rtsp'?)"]),
        ("{url: 'file://x.mkv'}", ["three slashes"]),
        ("{url: x, fps: true}", ["rigs.one.infrared.fps: should be a number (got true)"]),
        ("{url: x, fps: 0}", ["should be greater than 0 (got 0)"]),
        ("{url: x, fps: .nan}", ["fps: should be"]),
        ("{url: x, fps: fast}", ["should be a number (got 'fast')"]),
        ("{url: 'synthetic://street', fps: 25}", ["set it in the URL of a synthetic source"]),
        ("{url: x, range: [5, 2]}", ["range: should be [low, high] with low below high"]),
        ("{url: x, range: [5]}", ["range[1]: is missing"]),
        ("{url: x, range: 5}", ["range: should be a list: [a, b] (got 5)"]),
        ("{url: x, range: [0, 65536]}", ["range[1]: should be less than or equal to 65535 (got 65536)"]),
        ("{url: x, range: [false, 3]}", ["range[0]: should be a number (got false)"]),
        ("{urls: x, fsp: 3}", ["urls: unknown key (did you mean 'url'?)", "fsp: unknown key (did you mean 'fps'?)"]),
    ],
)
def test_mistakes_in_a_source(tmp_path: Path, source: str, expected: list[str]) -> None:
    found = problems(
        tmp_path, RIG.replace("{url: ir.mkv}", source).replace("SECTION", "").replace("SINK", "{images: o}")
    )
    assert len(found) == len(expected)
    for problem, part in zip(found, expected, strict=True):
        assert part in problem


def test_defaults_lie_under_the_rigs_keys_key_by_key(tmp_path: Path) -> None:
    text = """\
schema: 1
defaults:
  sync: {tolerance: 5ms, max_wait: 7ms}
  fusion: {model: mean}
  output:
rigs:
  a: &a
    infrared: {url: ir.mkv}
    visible: {url: vis.mkv}
    sync: {max_wait: 9ms}
    sinks: [{file: a.mkv}]
  b:
    <<: *a
    sync:
    fusion: {backend: openvino}
    sinks: [{file: b.mkv}]
"""
    a, b = load_rig_file(write(tmp_path, text)).select()
    assert (a.sync.tolerance_ns, a.sync.max_wait_ns, a.fusion.model) == (5_000_000, 9_000_000, "mean")
    assert (b.sync.tolerance_ns, b.sync.max_wait_ns, b.fusion.model) == (5_000_000, 7_000_000, "mean")
    assert b.fusion.backend == "openvino"
    assert [rig.name for rig in load_rig_file(tmp_path / "rigs.yaml").select(["b", "a", "b"])] == ["b", "a"]
    # a mistake in the defaults is one mistake, at its own place
    assert problems(tmp_path, text.replace("mean", "men")) == [
        "4: defaults.fusion.model: unknown model (did you mean 'mean'?) (got 'men')"
    ]
    assert problems(tmp_path, text.replace("infrared", "infrard")) == [
        "8: rigs.a.infrard: unknown key (did you mean 'infrared'?)"
    ]


def test_sync_auto_is_the_default_of_all_of_its_keys(tmp_path: Path) -> None:
    assert rig_of(tmp_path, "sync: auto").sync == SyncConfig()
    shared = RIG.replace("rigs:", "defaults: {sync: {tolerance: 5ms}}\nrigs:").replace("SINK", "{file: a.mkv}")
    (rig,) = load_rig_file(write(tmp_path, shared.replace("SECTION", "sync: auto"))).select()
    assert rig.sync.tolerance_ns is None, "also over the defaults of the file"
    text = shared.replace("{sync: {tolerance: 5ms}}", "{sync: auto}").replace("SECTION", "sync: {max_wait: 9ms}")
    (rig,) = load_rig_file(write(tmp_path, text)).select()
    assert (rig.sync.tolerance_ns, rig.sync.max_wait_ns) == (None, 9_000_000)
    assert problems(tmp_path, text.replace("sync: auto", "sync: atuo")) == [
        "2: defaults.sync: should hold keys and values (key: value) (got 'atuo')"
    ]


def test_unknown_rig(tmp_path: Path) -> None:
    document = load_rig_file(write(tmp_path, RIG.replace("SECTION", "").replace("SINK", "{file: a.mkv}")))
    assert document.names == ("one",)
    with pytest.raises(ConfigError, match=r"rigs\.yaml:2: rigs: unknown rig 'onne' \(did you mean 'one'\?\)"):
        document.select(["onne"])


def test_environment_variables(tmp_path: Path) -> None:
    text = RIG.replace("url: ir.mkv", 'url: "${DIR}/ir", fps: "${FPS:-12.5}"').replace("vis.mkv", '"$${x}-$HOME"')
    text = text.replace("SECTION", "sync: {tolerance: '${T:-3ms}'}").replace("SINK", "{file: '${N:-a}.mkv'}")
    rig = load_rig_file(write(tmp_path, text)).select(None, {"DIR": "/data", "T": "", "N": "b"})[0]
    assert (rig.infrared.url, rig.infrared.fps) == ("/data/ir", 12.5)
    assert (rig.visible.url, rig.sync.tolerance_ns) == (f"{tmp_path}/${{x}}-$HOME", 3_000_000)
    assert isinstance(rig.sinks[0], FileSink) and rig.sinks[0].file == f"{tmp_path}/b.mkv"
    assert problems(tmp_path, text) == [
        "4: rigs.one.infrared.url: needs the environment variable DIR, which is not set"
    ]


@pytest.mark.parametrize("use", ["${}", "${A", "${1A}", "${A:-${B}}", "${A-b}", "${A B}"])
def test_malformed_variables(tmp_path: Path, use: str) -> None:
    found = in_rig(tmp_path, f"registration: {{calibration: '{use}'}}", A="a", B="b")
    assert found[0].startswith("6: rigs.one.registration.calibration: has a ${ that is neither ${NAME}")


def test_variables_of_rigs_that_are_not_selected_do_not_matter(tmp_path: Path) -> None:
    other = "  two:\n    infrared: {url: '${NOWHERE}', nonsense: 1}\n    visible: {url: v}\n"
    document = load_rig_file(write(tmp_path, RIG.replace("SECTION", "").replace("SINK", "{file: a.mkv}") + other))
    assert document.select(["one"], {})[0].name == "one"
    one, two = document.check(None, {})
    assert one.rig and not one.problems and not one.unset
    assert two.rig is None and len(two.unset) == 1
    assert [problem.key for problem in two.problems] == ["rigs.two.sinks", "rigs.two.infrared.nonsense"][1:]


@pytest.mark.parametrize(
    "text",
    [
        RIG.replace("url: ir.mkv", "url: 'rtsp://ann:hunter2@cam/x', transport: tpc, fps: -1"),
        RIG.replace("ir.mkv", "'rtsp://ann:hunter2@cam/x'"),
        RIG.replace("ir.mkv", "'ftp://ann:hunter2@cam/x?token=hunter2'"),
        RIG.replace("ir.mkv", "'ftp://${USER_}:${PASS_}@cam'"),
        RIG.replace("ir.mkv", '"${PASS_}"').replace("SECTION", "sync: {tolerance: '${PASS_}', on_missing: '${PASS_}'}"),
        RIG.replace("SECTION", "fusion: {model: '${PASS_}', backend: '${PASS_}'}"),
        RIG.replace("SECTION", "'http://u:hunter2@h/': 3"),
        RIG.replace("SECTION", "registration: {calibration: 'rtsp://u:hunter2@h'}"),
        RIG.replace("SINK", "{file: '${PASS_}'}, {images: '${PASS_}'}, {file: '${PASS_}'}, 'rtsp://u:hunter2@h'"),
        RIG.replace("SINK", "{images: '${PASS_}'}, {images: '${PASS_}'}, {rtsp: 'rtsp://u:hunter2@h'}"),
    ],
)
def test_no_message_shows_a_secret(tmp_path: Path, text: str) -> None:
    text = text.replace("SECTION", "output: {colour: x}").replace("SINK", "{file: a.mkv}")
    found = "\n".join(problems(tmp_path, text, {"USER_": "ann", "PASS_": "hunter2"}))
    assert found
    assert "hunter2" not in found
    assert "hunter2" not in load_rig_file(tmp_path / "rigs.yaml").describe("one")


def test_python_hides_secrets_too() -> None:
    source = SourceConfig(url="rtsp://ann:hunter2@cam/x")
    assert "hunter2" not in repr(source) + str(source) + source.label
    with pytest.raises(ValidationError) as caught:
        SourceConfig.model_validate({"url": "ftp://ann:hunter2@cam/x", "fps": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("output: {hot_overlay: on}", "output.hot_overlay"),
    ],
)
def test_what_is_not_available_yet_is_refused(tmp_path: Path, section: str, key: str) -> None:
    (problem,) = in_rig(tmp_path, section)
    assert problem.startswith(f"6: rigs.one.{key}: ") and "not available yet in this version" in problem


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{url: ir.mkv, transport: tcp}", "transport is for live cameras"),
        ("{url: ir.mkv, stall_timeout: 2s}", "stall_timeout is for live cameras"),
        ("{url: 'http://cam/x', transport: udp}", "transport is for rtsp:// cameras"),
        ("{url: 'rtsp://cam/x', fps: 25}", "fps is for files and devices"),
        ("{url: 'rtsp://cam/x', stall_timeout: 11s}", "should be at most 10s"),
        ("{url: 'rtsp://cam/x', options: {a: [1]}}", "should be"),
    ],
)
def test_keys_of_live_cameras_where_they_make_no_sense(tmp_path: Path, source: str, message: str) -> None:
    text = RIG.replace("{url: ir.mkv}", source).replace("SECTION", "").replace("SINK", "{images: o}")
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("4: rigs.one.infrared") and message in problem


def test_a_rig_is_made_in_python_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data: dict[str, Any] = {
        "infrared": {"url": "ir"},
        "visible": SourceConfig(url="vis", latency_ns=0),
        "sync": {"tolerance": "5ms", "offset_ns": -7},
        "sinks": [{"file": "a.mkv", "quality": 3}, FileSink(file="b.mp4", crf=4, flush_ns=5)],
    }
    rig = Rig.model_validate(data)
    assert (rig.infrared.url, rig.base_dir, rig.name) == (f"{tmp_path}/ir", tmp_path, "rig")
    assert (rig.sync.tolerance_ns, rig.sync.offset_ns) == (5_000_000, -7)
    assert [(s.file, s.crf, s.flush_ns) for s in rig.sinks if isinstance(s, FileSink)] == [
        (f"{tmp_path}/a.mkv", 3, 1_000_000_000),
        (f"{tmp_path}/b.mp4", 4, 5),
    ]
    assert Rig(**data, name="x", base_dir=Path("sub")).infrared.url == f"{tmp_path}/sub/ir"
    assert SyncConfig(tolerance_ns=3).tolerance_ns == 3
    with pytest.raises(ValidationError, match="needs a unit"):
        SyncConfig.model_validate({"tolerance": 3})
    with pytest.raises(ValidationError):
        rig.name = "y"
    assert unavailable(rig) == []
    later = Rig.model_validate({**data, "output": {"hot_overlay": "on"}})
    assert [problem.key for problem in unavailable(later)] == ["output.hot_overlay"]


def test_radiometry_is_for_the_infrared_camera(tmp_path: Path) -> None:
    values = {"url": "ir.mkv", "radiometry": {"unit": "kelvin", "gain": 0.01}}
    rig = Rig.model_validate({"infrared": values, "visible": {"url": "vis.mkv"}})
    assert rig.infrared.radiometry is not None and rig.infrared.radiometry.gain == 0.01
    with pytest.raises(ValidationError, match="remove it from visible"):
        Rig.model_validate({"infrared": {"url": "ir.mkv"}, "visible": values})
    with pytest.raises(ValidationError, match="greater than 0"):
        SourceConfig.model_validate({"url": "ir.mkv", "radiometry": {"unit": "kelvin", "gain": 0}})
