"""Files of rigs: every mistake with its line and the nearest key, defaults, variables, secrets, conflicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fusepipe.config.availability import unavailable
from fusepipe.config.endpoints import parse_preview, parse_rtsp
from fusepipe.config.load import load_rig_file
from fusepipe.config.schema import FileSink, ImagesSink, Rig, SourceConfig, SyncConfig
from fusepipe.errors import ConfigError
from fusepipe.frames import Band

RIG = """\
schema: 1
rigs:
  one:
    infrared: {url: ir.mkv}
    visible: {url: vis.mkv}
    SECTION
    sinks: [SINK]
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "rigs.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def rig_of(tmp_path: Path, section: str = "", sink: str = "{file: out.mkv}", **environ: str) -> Rig:
    text = RIG.replace("SECTION", section or "output: {}").replace("SINK", sink)
    return load_rig_file(write(tmp_path, text)).select(["one"], environ)[0]


def problems(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_rig_file(file).select(None, environ or {})
    assert all(problem.file == str(file) for problem in caught.value.problems)
    return [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems]


def in_rig(tmp_path: Path, section: str = "output: {}", sink: str = "{file: out.mkv}", **environ: str) -> list[str]:
    return problems(tmp_path, RIG.replace("SECTION", section).replace("SINK", sink), environ)


def test_values_and_defaults(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, "sync: {tolerance: 5ms, offset: -3 ms, max_wait: 0, reference: infrared}")
    assert (rig.sync.tolerance_ns, rig.sync.offset_ns, rig.sync.max_wait_ns) == (5_000_000, -3_000_000, 0)
    assert rig.sync.reference is Band.INFRARED
    assert (rig.sync.max_hold_ns, rig.sync.on_missing, rig.sync.pair_by) == (1_000_000_000, "hold", "auto")
    assert (rig.fusion.model, rig.fusion.backend, rig.fusion.precision, rig.fusion.engine) == (
        "stream",
        "auto",
        "auto",
        None,
    )
    assert (rig.output.colour, rig.output.hot_overlay, rig.registration.drift) == ("visible", "off", "off")
    sink = rig.sinks[0]
    assert isinstance(sink, FileSink)
    assert (sink.codec, sink.crf, sink.preset, sink.flush_ns) == ("h264", 20, "superfast", 1_000_000_000)
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
    # the folder's own percent sign is no part of the pattern
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
        ("schema: 1\nrigs:\n  a/b: {}\n", "3: rigs.a/b: a rig's name is letters"),
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
            "6: rigs.one.sync.on_missing: should be 'hold', 'drop' or 'single' (got 'Hold'",
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
            "fusion.model: there is no such model (did you mean 'stream'?) (got 'steam')",
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
        ("{url: 'rstp://x'}", ["is a URL of an unknown kind rstp:// (did you mean 'rtsp'?)"]),
        ("{url: 'file://x.mkv'}", ["three slashes"]),
        ("{url: x, fps: true}", ["rigs.one.infrared.fps: should be a number (got true)"]),
        ("{url: x, fps: 0}", ["should be greater than 0 (got 0)"]),
        ("{url: x, fps: .nan}", ["fps: should be"]),
        ("{url: x, fps: fast}", ["should be a number (got 'fast')"]),
        ("{url: 'synthetic://street', fps: 25}", ["is part of the URL of a synthetic source"]),
        ("{url: x, range: [5, 2]}", ["range: should be [low, high] with low below high"]),
        ("{url: x, range: [5]}", ["range[1]: is missing"]),
        ("{url: x, range: 5}", ["range: should be a list: [a, b] (got 5)"]),
        ("{url: x, range: [0, 65536]}", ["range[1]: should be less than or equal to 65535 (got 65536)"]),
        ("{url: x, range: [0, 1.5]}", ["range[1]: should be a whole number (got 1.5)"]),
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


@pytest.mark.parametrize(
    ("sink", "expected"),
    [
        ("", "7: rigs.one.sinks: is missing: where the output goes"),
        ("out.mkv", "7: rigs.one.sinks[0]: should be a sink, such as {file: out/fused.mkv} (got 'out.mkv')"),
        ("3", "rigs.one.sinks[0]: should hold keys and values (key: value) (got 3)"),
        ("{fil: out.mkv}", "rigs.one.sinks[0].fil: unknown key (did you mean 'file'?)"),
        ("{image: out}", "rigs.one.sinks[0].image: unknown key (did you mean 'images'?)"),
        ("{path: out.mkv}", "should have one of the keys file, images, rtsp, preview"),
        ("{file: a.mkv, images: b}", "is one sink with file and images: write each as its own entry"),
        ("{file: a.mkv}, {file: b.avi}", "rigs.one.sinks[1].file: should end in .mkv or .mp4 (got 'b.avi')"),
        ("{file: a.partial.mkv}", "ends in .partial"),
        ("{file: 'a%Q.mkv'}", "has the unknown time pattern '%Q'; known: %Y"),
        ("{file: '50%.mkv'}", "has the unknown time pattern '%.'"),
        ("{file: a.mkv, quality: 52}", "quality: should be less than or equal to 51 (got 52)"),
        ("{file: a.mkv, quality: true}", "quality: should be a number (got true)"),
        ("{file: a.mkv, crf: 20}", "rigs.one.sinks[0].crf: unknown key"),
        ("{file: a.mkv, preset: supefast}", "did you mean 'superfast'?"),
        ("{file: a.mkv, codec: ffv1, quality: 3}", "quality is for codec h264"),
        ("{file: a.mp4, codec: ffv1}", "codec ffv1 needs a file that ends in .mkv"),
        ("{file: a.mkv, flush: 0}", "flush: should be longer than 0 (got 0)"),
        ("{file: a.mkv, segment: 10min}", "segments need a name with the time, such as rec/%Y-"),
        ("{file: 'a%%.mkv', segment_size: 5MB}", "segments need a name with the time"),
        ("{file: '%H.mkv', segment: 10}", "segment: needs a unit: say 20ms or 20s (got 10)"),
        ("{file: '%H.mkv', segment_size: 500}", "segment_size: needs a unit: say 500MB or 2GB (got 500)"),
        ("{file: '%H.mkv', segment_size: 5MiB}", "is an amount of data with one of the units kB, MB, GB, TB"),
        ("{file: '%H.mkv', segment_size: 0}", "segment_size: should be at least 1kB"),
        ("{file: '%H.mkv', max_age: 7d}", "max_age deletes old segments: it needs segment, such as segment: 10min"),
        ("{file: '%H.mkv', max_total: 7GB}", "max_total deletes old segments: it needs segment"),
        ("{file: '%H.mkv', segment_size: 5MB, max_total: 9MB}", "max_total should hold at least two segments"),
        ("{file: '%H.mkv', zone: UTC}", "zone: should be 'local' or 'utc' (got 'UTC'"),
        (
            "{file: '%H.mkv', segment: 1h, max_age: 7d}, {file: '%M.mkv'}",
            "sinks[0].max_age: would delete what rigs.one.",
        ),
        ("{file: '%H.mkv', segment: 1h, max_total: 7GB}, {file: '12.mkv'}", "records too, whose names look the same"),
        (
            "{file: '%H.mkv', segment: 1h, max_age: 1d}, {file: '%M.mp4', sidecar: on}",
            "sinks[0].max_age: would delete what rigs.one.sinks[1] records too",
        ),
        (
            "{file: a.mkv, sidecar: on}, {file: a.mp4, sidecar: on}",
            "writes to the same place as rigs.one.sinks[0].file",
        ),
        ("{images: a, format: jpeg}", "(got 'jpeg'); did you mean 'jpg'?"),
        ("{images: }", "images: should be a path (got nothing)"),
        ("{rtsp: 'http://127.0.0.1:8554/a'}", "rtsp: should be a URL such as rtsp://127.0.0.1:8554/roof"),
        ("{rtsp: 'rtsp://127.0.0.1/a'}", "rtsp: needs the port to serve on, such as rtsp://127.0.0.1:8554/roof"),
        ("{rtsp: 'rtsp://127.0.0.1:8554'}", "rtsp: needs a name of letters"),
        ("{rtsp: 'rtsp://127.0.0.1:0/a'}", "rtsp: needs the port to serve on"),
        ("{rtsp: 'rtsp://127.0.0.1:99999/a'}", "rtsp: has a port that is no number from 1 to 65535"),
        ("{rtsp: 'rtsp://[::1:8554/a'}", "rtsp: is no URL; such as rtsp://"),
        ("{rtsp: 'rtsp://ann@127.0.0.1:8554/a'}", "rtsp: needs a user and a password"),
        ("{rtsp: 'rtsp+push://h/a', max_clients: 3}", "max_clients is for a stream that is served here"),
        ("{rtsp: 'rtsp+push://h'}", "rtsp: needs the path to push to"),
        ("{rtsp: 'rtsp://h:1/a', bitrate: 2}", "bitrate: needs a unit: say 2Mbps or 800kbps (got 2)"),
        ("{rtsp: 'rtsp://h:1/a', bitrate: 2MB}", "bitrate: is a bit rate with one of the units kbps, Mbps"),
        ("{rtsp: 'rtsp://h:1/a', bitrate: 1kbps}", "bitrate: should be from 50kbps to 200Mbps"),
        ("{rtsp: 'rtsp://h:1/a', bitrate: 1Mbps, quality: 20}", "has both quality and bitrate: keep one"),
        ("{rtsp: 'rtsp://h:1/a', encoder: nvnec}", "did you mean 'nvenc'?"),
        ("{rtsp: 'rtsp://h:1/a'}, {rtsp: 'rtsp://h:1/a'}", "writes to the same place as rigs.one.sinks[0].rtsp"),
        (
            "{rtsp: 'rtsp://h:1/a'}, {preview: 'http://h:1'}",
            "sinks[1].preview: cannot listen on port 1 beside rigs.one.s",
        ),
        ("{rtsp: 'rtsp://h:1/a'}, {rtsp: 'rtsp://0.0.0.0:1/b'}", "sinks[1].rtsp: cannot listen on port 1 beside"),
        ("{preview: 'http://127.0.0.1'}", "preview: needs the port to serve on, such as http://127.0.0.1:8080"),
        ("{preview: 'https://127.0.0.1:1'}", "preview: should be a URL such as http://127.0.0.1:8080"),
        ("{preview: 'http://127.0.0.1:1/x'}", "preview: is only an address and a port"),
        ("{preview: 'http://127.0.0.1:1', token: short}", "token: should be at least 8 letters"),
    ],
)
def test_mistakes_in_a_sink(tmp_path: Path, sink: str, expected: str) -> None:
    (problem,) = in_rig(tmp_path, sink=sink)
    assert expected in problem


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
        "4: defaults.fusion.model: there is no such model (did you mean 'mean'?) (got 'men')"
    ]
    assert problems(tmp_path, text.replace("infrared", "infrard")) == [
        "8: rigs.a.infrard: unknown key (did you mean 'infrared'?)"
    ]


def test_unknown_rig(tmp_path: Path) -> None:
    document = load_rig_file(write(tmp_path, RIG.replace("SECTION", "").replace("SINK", "{file: a.mkv}")))
    assert document.names == ("one",)
    with pytest.raises(ConfigError, match=r"rigs\.yaml:2: rigs: there is no rig 'onne' \(did you mean 'one'\?\)"):
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
    assert found[0].startswith("6: rigs.one.registration.calibration: has a ${ that is no ${NAME}")


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


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "rtsp://", "rtsp+push://", "http://", "rtsp://u:hunter2@h:1/"]))
def test_any_url_of_an_output_is_taken_apart_or_refused(rest: str, start: str) -> None:
    for parse in (parse_rtsp, parse_preview):
        try:
            place = parse(start + rest)
        except ValueError as error:
            shown = str(error)
        else:
            shown = repr(place)
            assert place.host and 0 < place.port < 65536
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("sinks", "expected"),
    [
        (
            "{file: a.mkv}, {file: ./x/../a.mkv}",
            "rigs.one.sinks[1].file: writes to the same place as rigs.one.sinks[0].file on line 7",
        ),
        ("{images: o}, {images: o/}", "writes to the same place"),
        ("{file: vis.mkv}", "rigs.one.sinks[0].file: writes over the input rigs.one.visible.url on line 5"),
        ("{images: ./ir.mkv}", "writes over the input rigs.one.infrared.url on line 4"),
    ],
)
def test_outputs_that_overwrite(tmp_path: Path, sinks: str, expected: str) -> None:
    (problem,) = in_rig(tmp_path, sink=sinks)
    assert expected in problem


def test_outputs_that_share_a_port(tmp_path: Path) -> None:
    sinks = "{rtsp: 'rtsp://h:1/a'}, {rtsp: 'rtsp://h:1/b'}, {rtsp: 'rtsp+push://h:1/a'}, {preview: 'http://h:2'}"
    assert len(rig_of(tmp_path, sink=sinks).sinks) == 4


def test_rigs_that_overwrite_each_other(tmp_path: Path) -> None:
    rig = RIG.replace("SECTION", "").replace("SINK", "{file: a.mkv}")
    other = rig.split("rigs:\n")[1].replace("one:", "two:")
    found = problems(tmp_path, rig + other)
    assert found == ["12: rigs.two.sinks[0].file: writes to the same place as rigs.one.sinks[0].file on line 7"]
    document = load_rig_file(tmp_path / "rigs.yaml")
    assert document.select(["one"]) and document.select(["two"])


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


def test_recordings_whose_names_differ_may_delete_side_by_side(tmp_path: Path) -> None:
    sinks = "{file: 'a/%H.mkv', segment: 1h, max_age: 7d}, {file: 'b/%H.mkv', segment: 1h, max_age: 7d}, {file: c.mkv}"
    text = RIG.replace("SECTION", "").replace("SINK", f"{sinks}, {{file: 'a/%H_%M.mkv'}}")
    assert load_rig_file(write(tmp_path, text)).select()
