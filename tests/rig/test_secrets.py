"""No part of a password or token of a URL is ever shown, whatever characters it has: by no command, nor by Python."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusepipe.cli import main
from fusepipe.config.schema import RtspSink, SourceConfig
from fusepipe.core.errors import message_lines
from fusepipe.core.redact import hide_known, redact_url, remember, unescaped_problem
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.rig.process.event_log import log_to_stderr

LETTERS = "QXZJKVqxzjkv"  # in none of the texts that commands print four at a time
WORD = st.text(LETTERS, min_size=4, max_size=8)
SECRET = st.lists(
    st.tuples(WORD, st.sampled_from(list(" '\"#/?@:&%=;\\<>,+|^`~!*()[]{}"))), min_size=1, max_size=3
).map(lambda parts: "".join(word + special for word, special in parts))
FORMS = [
    "rtsp://admin:{}@127.0.0.1:1/ir",
    "http://admin:{}@127.0.0.1:1/ir.mjpg",
    "rtsp://{}@127.0.0.1:1/ir",
    "RTSP://admin:{}x@127.0.0.1:1/a?b",
    " rtsp://admin:{}@127.0.0.1:1/ir",
    "rtsp:/admin:{}@127.0.0.1:1/ir",
    "rtps://admin:{}@127.0.0.1:1/ir",
    "rtsp//admin:{}@127.0.0.1:1/ir",
    "rtsp ://admin:{}@127.0.0.1:1/ir",
    "http//admin:{}@127.0.0.1:1/ir.mjpg",
]
FUZZ = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def leaked(secret, *texts):
    """The runs of four letters of the secret that a text shows."""
    runs = {secret[i : i + 4] for i in range(len(secret) - 3) if secret[i : i + 4].isalpha()}
    return [run for run in runs for text in texts if run in text]


def call(capsys, *args):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, args)))
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def rig_file(tmp_path, url, sink="{images: o}"):
    rig = f"infrared: {{url: {json.dumps(url)}}}, visible: {{url: vis.mkv}}, fusion: {{model: mean}}, sinks: [{sink}]"
    (tmp_path / "rigs.yaml").write_text(f"schema: 1\nrigs: {{r: {{{rig}}}}}\n")
    return tmp_path / "rigs.yaml"


@FUZZ
@given(secret=SECRET, form=st.sampled_from(FORMS), as_json=st.booleans())
def test_validate_and_run_show_no_part_of_a_password(tmp_path, capsys, secret, form, as_json):
    file = rig_file(tmp_path, form.format(secret))
    flags = ["--json"] if as_json else []
    for command in (["validate", file], ["run", "--rig", file], ["run", "--rig", file, "--dry-run"]):
        _, out, err = call(capsys, *command, *flags)
        assert not leaked(secret, out, err)


@FUZZ
@given(
    secret=SECRET,
    scheme=st.sampled_from(["rtsp://", "rtsp+push://", "rtsps://", "rtsp+push:", "rtsp//"]),
    as_json=st.booleans(),
)
def test_the_password_of_an_output_is_not_shown(tmp_path, capsys, secret, scheme, as_json):
    sink = json.dumps(f"{scheme}admin:{secret}@127.0.0.1:1/roof")
    file = rig_file(tmp_path, "synthetic://street?band=infrared", f"{{rtsp: {sink}}}")
    for command in (["validate", file], ["run", "--rig", file]):
        _, out, err = call(capsys, *command, *(["--json"] if as_json else []))
        assert not leaked(secret, out, err)


@FUZZ
@given(secret=SECRET, form=st.sampled_from([FORMS[0], *FORMS[4:]]), as_json=st.booleans())
def test_probe_fuse_and_calibrate_show_no_part_of_a_password(tmp_path, capsys, secret, form, as_json):
    url = form.format(secret)
    flags = ["--json"] if as_json else []
    for command in (
        ["probe", url, "--duration", "0.1s"],
        ["fuse", url, "vis.png", "-o", tmp_path / "o"],
        ["calibrate", "scene", url, "vis.png", "-o", tmp_path / "c.yaml"],
    ):
        code, out, err = call(capsys, *command, *flags)
        assert code in (2, 3, 5) and not leaked(secret, out, err)


@given(secret=WORD, special=st.sampled_from(["", " ", "'", '"']))
def test_tokens_of_options_are_hidden(secret, special):
    url = f"http://cam.example.org/video?token={secret}{special}{secret}&size=2"
    assert not leaked(secret, SourceConfig(url=url).label, repr(SourceConfig(url=url)))
    assert "size=2" in redact_url(url)


@FUZZ
@given(secret=SECRET)
def test_python_objects_and_logs_show_no_part_of_a_password(capsys, secret):
    url = f"rtsp://admin:{secret}@127.0.0.1:1/ir"
    remember(url)
    shown = [redact_url(url), hide_known(f"library: cannot open '{url}' ({secret})")]
    shown += message_lines(ValueError(f"port '{secret.partition('/')[0]}' is not a number"))
    if not unescaped_problem(url):
        shown.append(repr(SourceConfig(url=url)))
        shown.append(SourceConfig(url=url).label)
    assert "admin" not in redact_url(url)
    log_to_stderr()
    try:
        logging.getLogger("fusepipe.test").warning("FFmpeg: %s", url)
    finally:
        logging.getLogger("fusepipe").handlers.clear()
    assert not leaked(secret, *shown, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("rtsp://admin:my#secret@127.0.0.1:1/x", "write # as %23"),
        ("rtsp://admin:my/secret@127.0.0.1:1/x", "write / as %2F"),
        ("http://admin:my?secret@127.0.0.1:1/x", "write ? as %3F"),
        ("http://admin:a/b#c@127.0.0.1:1/x", "write / as %2F, # as %23"),
    ],
)
def test_unescaped_characters_are_rejected_with_what_to_write(capsys, tmp_path, url, advice):
    for command in (["probe", url], ["run", "--rig", rig_file(tmp_path, url)], ["validate", tmp_path / "rigs.yaml"]):
        code, out, err = call(capsys, *command)
        assert code == 2 and advice in err and "secret" not in out + err and "my" not in out + err


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://10.0.0.8:554/a@b",
        "rtsp://u:p@10.0.0.8/live@main",
        "http://cam/x?user=a@b.org",
        "rtsp://u:my secret@cam/x",
        "rtsp://u:a%23b@cam/x",
        "rtsp://u:a@b@cam/x",
    ],
)
def test_readable_urls_are_accepted(url):
    assert unescaped_problem(url) == ""
    SourceConfig(url=url)


def test_the_passwords_of_outputs_are_hidden():
    sink = RtspSink(rtsp="rtsp+push://user:qxzj kv'qx@10.0.0.8/roof")
    assert not leaked("qxzj", repr(sink)) and "'qx@" not in repr(sink)


def test_options_of_a_connection_are_not_shown_in_full():
    config = SourceConfig(url="http://cam/x", options={"headers": "Authorization: Basic qxzjkv"})
    assert "qxzjkv" not in repr(config) and "headers" in repr(config)
    assert "qxzjkv" not in repr(LiveOptions(options={"headers": "Authorization: Basic qxzjkv"}))


@pytest.mark.parametrize(
    "url",
    [
        "rtsp//admin:hunterseven@h/x",
        "rtsp ://admin:hunterseven@h/x",
        "rtsp+push:admin:hunterseven@h",
        "rtsp//admin:hunterseven@",
        "http//admin:hunterseven@127.0.0.1:8080",
        "rtsp:hunterseven@h/x",
        "http://h/x?pw=hunterseven",
        "http://h/x?loginpas=hunter;seven",
    ],
)
@pytest.mark.parametrize("sink", [None, "rtsp", "preview", "file", "images"])
def test_malformed_urls_show_no_password(tmp_path, capsys, url, sink):
    assert not leaked("hunterseven", redact_url(url))
    file = rig_file(tmp_path, "a.mkv" if sink else url, f"{{{sink}: {json.dumps(url)}}}" if sink else "{images: o}")
    for command in (["validate", file], ["run", "--rig", file, "--dry-run"], ["probe", url, "--duration", "0.1s"]):
        _, out, err = call(capsys, *command)
        assert not leaked("hunterseven", out, err)


@pytest.mark.parametrize("path", ["/data/a@b/clip.mkv", "data/a@b.mkv", "clip@2x.mkv", "data/12:30.mkv"])
def test_paths_are_shown(path):
    assert redact_url(path) == path


def test_parts_of_a_password_do_not_hide_other_words():
    remember("rtsp://admin:word;hunterseven@10.0.0.8/ir", "rtsp://admin:show@10.0.0.8/vis")
    assert hide_known("the password showed: word show hunterseven") == "the password showed: *** *** ***"


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("rtsp://admin:hunterseven@127.0.0.1:abc/ir", "has a port that is not a number"),
        ("http://127.0.0.1:99999/ir", "has a port that is not a number"),
        ("rtsp://admin:hunterseven@[::1/ir", "brackets, such as [::1]:554"),
        ("rtsp://[::zz]:554/ir", "no valid IPv6 address"),
        ("rtsp://fe80::1:2/ir", "write an IPv6 address in brackets"),
    ],
)
def test_a_host_or_port_that_cannot_be_parsed_is_rejected(capsys, tmp_path, url, advice):
    for command in (["probe", url], ["run", "--rig", rig_file(tmp_path, url)], ["validate", tmp_path / "rigs.yaml"]):
        code, out, err = call(capsys, *command)
        assert code == 2 and advice in err and "hunterseven" not in out + err


@pytest.mark.parametrize(
    "url",
    ["udp://@239.0.0.1:5000", "udp://:5000", "rtsp://u:p@[fe80::1%eth0]:554/x", "http://cam?a=b:c", "srt://h:9?a=b"],
)
def test_hosts_and_ports_of_all_kinds_are_accepted(url):
    assert SourceConfig(url=url).kind == "live"
