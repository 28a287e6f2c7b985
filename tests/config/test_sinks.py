"""Outputs in files of rigs: mistakes, and outputs that overwrite or share."""

from pathlib import Path

import pytest
from helpers.rig_files import RIG, in_rig, problems, rig_of, write
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fusepipe.config.endpoints import parse_preview, parse_rtsp
from fusepipe.config.rig_file import load_rig_file
from fusepipe.config.sinks import FileSink, PreviewSink
from fusepipe.core.redact import hide_known
from fusepipe.core.view_settings import HotSettings, ViewSettings

HASH = "$scrypt$ln=15,r=8,p=3$z/YU2EB3QHgtd+xmpPP1KA$RB0RQoqEUcPU1e/SvEvgMmKfWa8Y39AEI0Ca1r5ewz0"
USER = "{{preview: 'http://127.0.0.1:1', users: [{{{}}}]}}"


@pytest.mark.parametrize(
    ("sink", "expected"),
    [
        ("", "7: rigs.one.sinks: is missing; list the outputs"),
        ("out.mkv", "7: rigs.one.sinks[0]: should be a sink, such as {file: out/fused.mkv} (got 'out.mkv')"),
        ("3", "rigs.one.sinks[0]: should hold keys and values (key: value) (got 3)"),
        ("{fil: out.mkv}", "rigs.one.sinks[0].fil: unknown key (did you mean 'file'?)"),
        ("{image: out}", "rigs.one.sinks[0].image: unknown key (did you mean 'images'?)"),
        ("{path: out.mkv}", "should have one of the keys file, images, rtsp, preview"),
        ("{file: a.mkv, images: b}", "has file and images in one sink: write each as a list entry of its own"),
        (
            "{file: a.mkv}, {file: b.ts}",
            "rigs.one.sinks[1].file: should end in .mkv, .mp4, .mov, .avi or .webm (got 'b.ts')",
        ),
        ("{file: a.partial.mkv}", "ends in .partial"),
        ("{file: 'a%Q.mkv'}", "has the unknown time pattern '%Q'; known: %Y"),
        ("{file: '50%.mkv'}", "has the unknown time pattern '%.'"),
        ("{file: a.mkv, quality: 52}", "quality: should be less than or equal to 51 (got 52)"),
        ("{file: a.mkv, quality: true}", "quality: should be a number (got true)"),
        ("{file: a.mkv, crf: 20}", "rigs.one.sinks[0].crf: unknown key"),
        ("{file: a.mkv, preset: supefast}", "did you mean 'superfast'?"),
        ("{file: a.ts}", "should end in .mkv, .mp4, .mov, .avi or .webm"),
        ("{images: v.gif}", "not written here; name a video (.mkv"),
        ("{images: v.mp4}", "is the name of a video"),
        ("{file: 'rtsp://h/x.mkv'}", "file: is a URL; an output is a file or a folder"),
        ("{images: 'http://h/x'}", "images: is a URL; an output is a file or a folder"),
        ("{images: v.3gp}", ".3gp files are not written here"),
        ("{images: '-'}", "standard output is not supported"),
        ("{file: a.webm, codec: h264}", "codec h264 needs a file that ends in .mkv, .mp4, .mov or .avi"),
        ("{file: a.mp4, codec: vp9}", "codec vp9 needs a file that ends in .mkv or .webm"),
        ("{file: a.webm, preset: slow}", "preset is for codec h264"),
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
        (
            "{file: '%H.mkv', segment: 1h, max_total: 7GB}, {file: '12.mkv'}",
            "records too, whose names have the same format",
        ),
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
        ("{rtsp: 'rtsp://u:a#b@127.0.0.1:1/a'}", "rtsp: has a user or password with # in it: write # as %23"),
        ("{preview: 'http://u:a#b@127.0.0.1:1'}", "preview: has a user or password with # in it: write # as %23"),
        ("{rtsp: 'rtsp://127.0.0.1:0/a'}", "rtsp: needs the port to serve on"),
        ("{rtsp: 'rtsp://127.0.0.1:99999/a'}", "rtsp: has a port that is not a number from 1 to 65535"),
        ("{rtsp: 'rtsp://[::1:8554/a'}", "rtsp: is not a URL such as rtsp://"),
        ("{rtsp: 'rtsp://ann@127.0.0.1:8554/a'}", "rtsp: needs a user and a password"),
        ("{rtsp: 'rtsp+push://h/a', max_clients: 3}", "max_clients is for a stream that is served here"),
        ("{rtsp: 'rtsp+push://h'}", "rtsp: needs the path to push to"),
        ("{rtsp: 'rtsp://h:1/a', bitrate: 2}", "bitrate: needs a unit: say 2Mbps or 800kbps (got 2)"),
        ("{rtsp: 'rtsp://h:1/a', bitrate: 2MB}", "bitrate: is a bit rate with one of the units kbps, Mbps"),
        ("{rtsp: 'rtsp://h:1/a', bitrate: 1kbps}", "bitrate: should be from 50kbps to 200Mbps"),
        ("{rtsp: 'rtsp://h:1/a', bitrate: 1Mbps, quality: 20}", "has both quality and bitrate: keep one"),
        ("{rtsp: 'rtsp://h:1/a', encoder: nvnec}", "did you mean 'nvenc'?"),
        ("{file: a.webm, encoder: auto}", "encoder is for codec h264, not vp9: remove encoder"),
        ("{file: a.mkv, encoder: qsv, quality: 0}", "quality 0 is lossless, which encoder qsv is not"),
        ("{rtsp: 'rtsp://h:1/a'}, {rtsp: 'rtsp://h:1/a'}", "writes to the same place as rigs.one.sinks[0].rtsp"),
        (
            "{rtsp: 'rtsp://h:1/a'}, {preview: 'http://h:1'}",
            "sinks[1].preview: cannot listen on port 1 together with rigs.one.s",
        ),
        (
            "{rtsp: 'rtsp://h:1/a'}, {rtsp: 'rtsp://0.0.0.0:1/b'}",
            "sinks[1].rtsp: cannot listen on port 1 together",
        ),
        ("{preview: 'http://127.0.0.1'}", "preview: needs the port to serve on, such as http://127.0.0.1:8080"),
        ("{preview: 'ftp://127.0.0.1:1'}", "preview: should be a URL such as http://127.0.0.1:8080"),
        (
            "{preview: 'https://127.0.0.1:1'}",
            "needs a certificate: add certificate and key, or write http:// or rtsp://",
        ),
        ("{rtsp: 'rtsps://127.0.0.1:1/a', key: k}", "needs a certificate: add certificate and key"),
        (
            "{preview: 'http://127.0.0.1:1', certificate: c}",
            "write https:// or rtsps://, or remove certificate and key",
        ),
        ("{rtsp: 'rtsp://127.0.0.1:1/a', certificate: c, key: k}", "a certificate is for an encrypted server: write"),
        ("{rtsp: 'rtsp+push://h/a', certificate: c}", "certificate and key are for a stream that is served here"),
        ("{preview: 'https://127.0.0.1:1', certificate: 3}", "certificate: should be a path (got 3)"),
        (
            "{preview: 'https://h:1', certificate: c, key: k}, {preview: 'https://h:1', certificate: c}",
            "preview: has not the certificate and key of rigs.one.sinks[0].preview on line 7, which",
        ),
        (
            "{rtsp: 'rtsps://h:1/a', certificate: c}, {rtsp: 'rtsp://h:1/b'}",
            "sinks[1].rtsp: has not the certificate and key of rigs.one.sinks[0].rtsp",
        ),
        ("{preview: 'http://127.0.0.1:1/x'}", "preview: should be only an address and a port"),
        *(
            (f"{{preview: 'http://127.0.0.1:1', ice_servers: [{{{server}}}]}}", expected)
            for server, expected in (
                ("urls: ['http://h']", "ice_servers[0].urls[0]: should be stun:stun.example.org or turn:"),
                ("urls: ['turn:ann:hunter2@h'], username: a, credential: bbbb", "urls[0]: should be stun:"),
                ("urls: ['stun:[::1]:3478']", "with a name or an IPv4 address"),
                ("urls: ['stun:h:99999']", "urls[0]: has a port that is not a number from 1 to 65535"),
                ("urls: ['stun:h?transport=udp']", "may end in ?transport=udp or ?transport=tcp for turn:"),
                ("urls: ['turn:h?transport=tls'], username: a, credential: bbbb", "may end in ?transport=udp or"),
                ("urls: ['turn:h'], username: ann", "turn: needs username and credential"),
                ("urls: ['stun:h'], credential: hunter2", "username and credential are for turn: servers: remove them"),
                ("urls: ['turn:h'], username: ann, credential: 'hünter22'", "credential: should be letters, digits"),
                ("urls: []", "urls is empty: write stun:"),
                ("url: ['stun:h']", "urls"),
            )
        ),
        ("{preview: 'http://127.0.0.1:1', token: short}", "token: should be at least 8 letters"),
        (
            USER.format("name: ann, password: hunterseven"),
            "users[0]: has a password: write its password_hash, the line",
        ),
        (USER.format("name: ann"), "users[0].password_hash: is missing"),
        (
            USER.format("name: ann, password_hash: hunterseven"),
            "password_hash: should be the line that 'fusepipe hash-",
        ),
        (USER.format(f"name: a b, password_hash: '{HASH}'"), "users[0].name: should be 1 to 64 letters, digits"),
        (USER.format(f"name: ann, role: admin, password_hash: '{HASH}'"), "role: should be 'viewer' or 'operator'"),
        (USER.format(f"name: ann, roll: viewer, password_hash: '{HASH}'"), "roll: unknown key (did you mean 'role'?)"),
        (
            USER.format(f"name: ann, password_hash: '{HASH}'}}, {{name: ann, password_hash: '{HASH}'"),
            "sinks[0]: has two users named 'ann': keep one",
        ),
    ],
)
def test_mistakes_in_a_sink(tmp_path: Path, sink: str, expected: str) -> None:
    (problem,) = in_rig(tmp_path, sink=sink)
    assert expected in problem
    assert "hunter2" not in problem and "hünter22" not in problem
    assert "hunterseven" not in problem and "short" not in problem, "a mistyped secret is not shown"


def test_the_users_of_a_page(tmp_path: Path) -> None:
    (page,) = rig_of(tmp_path, sink=USER.format(f"name: ann@example.org, password_hash: '{HASH}'")).sinks
    assert isinstance(page, PreviewSink)
    assert [(user.name, user.role, user.password_hash) for user in page.users] == [("ann@example.org", "viewer", HASH)]
    assert HASH not in repr(page) + repr(page.users)


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=60),
    st.sampled_from(["", "rtsp://", "rtsp+push://", "http://", "https://", "rtsp://u:hunter2@h:1/"]),
)
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
        ("{file: vis.mkv}", "rigs.one.sinks[0].file: overwrites the input rigs.one.visible.url on line 5"),
        ("{images: ./ir.mkv/}", "overwrites the input rigs.one.infrared.url on line 4"),
    ],
)
def test_outputs_that_overwrite(tmp_path: Path, sinks: str, expected: str) -> None:
    (problem,) = in_rig(tmp_path, sink=sinks)
    assert expected in problem


def test_outputs_that_share_a_port(tmp_path: Path) -> None:
    sinks = "{rtsp: 'rtsp://h:1/a'}, {rtsp: 'rtsp://h:1/b'}, {rtsp: 'rtsp+push://h:1/a'}, {preview: 'http://h:2'}"
    assert len(rig_of(tmp_path, sink=sinks).sinks) == 4


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (f"users: [{{name: ann, role: operator, password_hash: '{HASH}'}}]", "has not the users of"),
        ("token: s3cret-s3cret", "has not the users of"),
        (f"users: [{{name: ann, password_hash: '{HASH}'}}], token: s3cret-s3cret", "has not the token of"),
    ],
)
def test_rigs_that_share_a_page_have_the_same_users_and_token(tmp_path: Path, other: str, expected: str | None) -> None:
    page = USER.format(f"name: ann, password_hash: '{HASH}'")
    one = RIG.replace("SECTION", "").replace("SINK", page)
    two = RIG.split("rigs:\n")[1].replace("one:", "two:").replace("SECTION", "")
    found = problems(tmp_path, one + two.replace("SINK", f"{{preview: 'http://127.0.0.1:1', {other}}}"))
    end = "rigs.one.sinks[0].preview on line 7, which listens on port 1 too: use the same"
    assert found == [f"12: rigs.two.sinks[0].preview: {expected} {end}"]
    same = write(tmp_path, one + two.replace("SINK", page))
    assert len(load_rig_file(same).select()) == 2


def test_rigs_that_overwrite_each_other(tmp_path: Path) -> None:
    rig = RIG.replace("SECTION", "").replace("SINK", "{file: a.mkv}")
    other = rig.split("rigs:\n")[1].replace("one:", "two:")
    found = problems(tmp_path, rig + other)
    assert found == ["12: rigs.two.sinks[0].file: writes to the same place as rigs.one.sinks[0].file on line 7"]
    document = load_rig_file(tmp_path / "rigs.yaml")
    assert document.select(["one"]) and document.select(["two"])


def test_recordings_with_different_names_may_delete_in_one_folder(tmp_path: Path) -> None:
    sinks = "{file: 'a/%H.mkv', segment: 1h, max_age: 7d}, {file: 'b/%H.mkv', segment: 1h, max_age: 7d}, {file: c.mkv}"
    text = RIG.replace("SECTION", "").replace("SINK", f"{sinks}, {{file: 'a/%H_%M.mkv'}}")
    assert load_rig_file(write(tmp_path, text)).select()


def test_the_credential_of_a_turn_server_is_secret(tmp_path: Path) -> None:
    server = "{urls: ['turns:h:443?transport=tcp', 'stun:h'], username: ann, credential: 'swordfish of 9 words'}"
    rig = rig_of(tmp_path, sink=f"{{preview: 'http://h:1', ice_servers: [{server}]}}")
    [sink] = rig.sinks
    assert isinstance(sink, PreviewSink) and sink.ice_servers[0].credential == "swordfish of 9 words"
    assert "swordfish" not in repr(rig) + repr(sink.ice_servers)
    assert hide_known("login with swordfish of 9 words failed") == "login with *** failed"


def test_a_view_is_part_of_every_output(tmp_path: Path) -> None:
    sinks = "{file: a.mkv, view: {mode: wipe, wipe: 0.25}}, {images: b, view: {palette: ironbow, blink: 1s}}"
    rig = rig_of(tmp_path, sink=sinks)
    assert [sink.view.settings() for sink in rig.sinks] == [
        ViewSettings("wipe", wipe=0.25),
        ViewSettings(palette="ironbow", blink_ns=1_000_000_000),
    ]
    wrong = RIG.replace("SECTION", "").replace("SINK", "{images: b, view: {mode: infared, wipe: 2}}")
    mode, wipe = problems(tmp_path, wrong)
    assert "view.mode: should be 'fused', 'infrared'" in mode and "view.wipe: should be less than or equal to 1" in wipe


def test_hot_areas_have_one_limit_and_isotherms_rise(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, sink="{file: a.mkv, view: {hot: {above: 60C, style: tint}, isotherms: [30C, 104F]}}")
    assert rig.sinks[0].view.settings() == ViewSettings(
        hot=HotSettings(333.15, style="tint"), isotherms_k=(303.15, 313.15)
    )
    assert rig_of(tmp_path, sink="{file: a.mkv, view: {hot: {}}}").sinks[0].view.settings().hot == HotSettings()
    for view, message in (
        ("{hot: {above: 60C, percentile: 99}}", "has both above and percentile: keep one"),
        ("{hot: {above: 60}}", "should be a temperature with its unit, such as 60C"),
        ("{hot: {percentile: 100}}", "should be less than 100"),
        ("{isotherms: [60C, 30C]}", "should be different temperatures, the lowest first"),
    ):
        (problem,) = problems(tmp_path, RIG.replace("SECTION", "").replace("SINK", f"{{file: a.mkv, view: {view}}}"))
        assert message in problem


def test_an_infrared_recording_is_lossless(tmp_path: Path) -> None:
    sink = FileSink.model_validate({"file": "ir.mkv", "content": "infrared"})
    assert sink.chosen_codec == "ffv1"
    for keys, message in (
        ({"file": "ir.mp4"}, "needs a file that ends in .mkv"),
        ({"file": "ir.mkv", "codec": "h264"}, "loses counts"),
        ({"file": "ir.mkv", "quality": 3}, "remove quality"),
        ({"file": "ir.mkv", "view": {"mode": "wipe"}}, "remove view"),
    ):
        with pytest.raises(ValidationError, match=message):
            FileSink.model_validate({"content": "infrared", **keys})
