"""Setting ``sync.offset`` in a rig file: that value changes, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepipe.config.rig_file import load_rig_file
from fusepipe.config.rig_offset import rig_to_edit, with_offset, write_offset
from fusepipe.core.errors import UsageError

MS = 1_000_000
HEAD = "# the roof\nschema: 1\n\nrigs:\n"
BODY = '    infrared: {url: "ir.mkv"}   # warm\n    visible: {url: vis.mkv}\n    sinks: [{file: out.mkv}]\n'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "    sync: {offset: -120ms}\n"),
        ("    sync: {}\n", "    sync: {offset: -120ms}\n"),
        ("    sync:\n", "    sync: {offset: -120ms}\n"),
        ("    sync: auto  # by itself\n", "    sync: {offset: -120ms}  # by itself\n"),
        ("    sync: {tolerance: 30ms}\n", "    sync: {offset: -120ms, tolerance: 30ms}\n"),
        ("    sync: {tolerance: 30ms, offset: 5ms} # old\n", "    sync: {tolerance: 30ms, offset: -120ms} # old\n"),
        ('    sync:\n      offset: "5ms"  # old\n', "    sync:\n      offset: -120ms  # old\n"),
        (
            "    sync:\n      # of the lab\n      tolerance: 30ms\n",
            "    sync:\n      # of the lab\n      offset: -120ms\n      tolerance: 30ms\n",
        ),
        ("    sync: &shared {tolerance: 30ms}\n", "    sync: &shared {offset: -120ms, tolerance: 30ms}\n"),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_only_the_value_changes(old: str, new: str, ends: str) -> None:
    other = "  other:\n    infrared: {url: a.mkv}\n    visible: {url: b.mkv}\n    sinks: []\n"
    text, wanted = (f"{HEAD}{other}  demo:\n{sync}{BODY}# end\n".replace("\n", ends) for sync in (old, new))
    assert with_offset(text, "demo", "-120ms", "rigs.yaml") == wanted


def test_a_rig_on_one_line() -> None:
    text = "schema: 1\nrigs: {demo: {infrared: {url: a.mkv}, visible: {url: b.mkv}, sinks: []}}\n"
    assert "{demo: {sync: {offset: 7ms}, infrared:" in with_offset(text, "demo", "7ms", "rigs.yaml")


@pytest.mark.parametrize(
    "text",
    [
        f"schema: 1\nrigs:\n  a: &a\n{BODY}  demo: *a\n",
        f"schema: 1\nrigs:\n  a:\n    sync: &s {{tolerance: 30ms}}\n{BODY}  demo:\n    sync: *s\n{BODY}",
        f"schema: 1\ndefaults: {{sync: {{tolerance: 30ms}}}}\nrigs:\n  demo:\n    sync: auto\n{BODY}",
    ],
)
def test_what_other_rigs_share_is_not_changed(text: str) -> None:
    with pytest.raises(UsageError, match=r"set it by hand: sync: \{offset: 7ms\}"):
        with_offset(text, "demo", "7ms", "rigs.yaml")


def test_the_file_keeps_its_permissions_and_its_old_self_lies_beside_it(tmp_path: Path) -> None:
    file, link = tmp_path / "rigs.yaml", tmp_path / "link.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + f"{HEAD}  demo:\n{BODY}".encode())
    file.chmod(0o640)
    link.symlink_to(file)
    old = file.read_bytes()
    done = write_offset(link, None, -120_400_000, stamp=lambda: "now")
    assert (done.rig, done.before, done.value) == ("demo", None, "-120ms")
    assert done.backup == tmp_path / "rigs.yaml.now.bak" and done.backup.read_bytes() == old
    assert link.is_symlink() and file.read_bytes().startswith(b"\xef\xbb\xbf#")
    assert [path.stat().st_mode & 0o777 for path in (file, done.backup)] == [0o640, 0o640]
    assert load_rig_file(file).select(["demo"])[0].sync.offset_ns == -120 * MS
    again = write_offset(file, "demo", -120 * MS, stamp=lambda: "later")
    assert (again.before, again.backup) == ("-120ms", None) and len(list(tmp_path.iterdir())) == 3


def test_which_rig(tmp_path: Path) -> None:
    file = tmp_path / "rigs.yaml"
    file.write_text(f"{HEAD}  demo:\n{BODY}  roof:\n{BODY}")
    assert rig_to_edit(file, "roof") == "roof"
    with pytest.raises(UsageError, match="has the rigs demo, roof; name one with --rig-name"):
        rig_to_edit(file, None)
    with pytest.raises(UsageError, match=r"unknown rig 'roofs' \(did you mean 'roof'"):
        rig_to_edit(file, "roofs")
