"""Atomic writes: the old file or the whole new one, and no temporary file afterwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusepipe.core import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuse(code: int) -> object:
    def call(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.atomic_file(path) as file:
        file.write("né".encode())
        assert path.read_text() == "old"
        assert len(names(tmp_path)) == 2
    assert path.read_text(encoding="utf-8") == "né"
    files.write_text(path, "newer")
    assert path.read_bytes() == b"newer" and names(tmp_path) == ["a.txt"]


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    writing = files.atomic_file(path)
    writing.__enter__().write(b"half")
    assert len(names(tmp_path)) == 2
    assert not writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append(names(tmp_path)))
    files.write_bytes(path, b"x")
    assert len(seen) == 1 and "a" not in seen[0]
    files.write_bytes(path, b"y", durable=False)
    assert len(seen) == 1 and path.read_bytes() == b"y"


@pytest.mark.parametrize("links", [True, False])
def test_without_overwrite_an_existing_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:  # FAT and some network file systems
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    path = tmp_path / "a"
    files.write_bytes(path, b"first", overwrite=False)
    with pytest.raises(FileExistsError):
        files.write_bytes(path, b"second", overwrite=False)
    assert path.read_bytes() == b"first" and names(tmp_path) == ["a"]


def test_any_name_that_a_file_can_have_can_be_written(tmp_path: Path) -> None:
    for name in ("é" * 127, "x" * 255, ".hidden", os.fsdecode(b"\xff\xfe")):
        files.write_bytes(tmp_path / name, b"x")
    assert len(names(tmp_path)) == 4


def test_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_missing_folder_is_the_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        files.write_bytes(tmp_path / "none" / "a", b"x")
    with pytest.raises(NotADirectoryError):
        files.write_bytes(tmp_path / "file" / "a", b"x")


def test_files_that_belong_together_are_never_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, sidecar = tmp_path / "a.plan", tmp_path / "a.json"
    files.write_together({plan: b"1", sidecar: b"1"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse(errno.ENOSPC))
        with pytest.raises(OSError):
            files.write_together({plan: b"2", sidecar: b"2"})
    assert (plan.read_bytes(), sidecar.read_bytes()) == (b"1", b"1"), "nothing was renamed yet"
    sidecar.unlink()
    sidecar.mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_together({plan: b"3", sidecar: b"3"})
    assert names(tmp_path) == ["a.json"], "a new plan beside an old sidecar would be worse than none"


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    path, other = tmp_path / "a[1].plan", tmp_path / "a1.plan"
    for name in (path, other):
        (tmp_path / f".{name.name}.0123456789abcdef.partial").write_bytes(b"half")
    path.write_bytes(b"whole")
    files.remove_leftovers(path)
    assert names(tmp_path) == [".a1.plan.0123456789abcdef.partial", "a[1].plan"]


def made_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "a.txt").write_text(content)
    return path


def stopped_at(renames: int, error: BaseException) -> Callable[[Path, Path], Path]:
    """``Path.rename`` that is stopped before the given one, counted from 1; those after it work again."""
    done, real = 0, Path.rename

    def rename(path: Path, target: Path) -> Path:
        nonlocal done
        done += 1
        if done == renames:
            raise error
        return real(path, target)

    return rename


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "data"
    for content in ("first", "second"):
        files.replace_folder(made_folder(tmp_path / "new", content), target)
        assert names(tmp_path) == ["data"] and (target / "a.txt").read_text() == content


@pytest.mark.parametrize("renames", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), OSError(errno.EIO, "I/O error")])
def test_a_folder_that_could_not_be_replaced_is_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, renames: int
) -> None:
    target, new = made_folder(tmp_path / "data", "old"), made_folder(tmp_path / "new", "new")
    monkeypatch.setattr(Path, "rename", stopped_at(renames, error))
    with pytest.raises(type(error)):
        files.replace_folder(new, target)
    assert names(tmp_path) == ["data", "new"] and (target / "a.txt").read_text() == "old"


def test_a_folder_that_cannot_be_moved_back_is_kept_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, new = made_folder(tmp_path / "data", "old"), made_folder(tmp_path / "new", "new")
    allowed, real = iter([True]), Path.rename

    def rename(path: Path, to: Path) -> Path:
        if not next(allowed, False):
            raise OSError(errno.EIO, "I/O error")
        return real(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="I/O error"):
        files.replace_folder(new, target)
    (aside,) = tmp_path.glob(".data.*.partial")
    assert (aside / "a.txt").read_text() == "old" and not target.exists()


def test_a_link_to_a_folder_is_replaced_without_its_folder(tmp_path: Path) -> None:
    elsewhere = made_folder(tmp_path / "elsewhere", "old")
    (tmp_path / "data").symlink_to(elsewhere)
    files.replace_folder(made_folder(tmp_path / "new", "new"), tmp_path / "data")
    assert names(tmp_path) == ["data", "elsewhere"] and (elsewhere / "a.txt").read_text() == "old"
    assert (tmp_path / "data" / "a.txt").read_text() == "new"


def test_a_folder_that_cannot_even_be_looked_at_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.why_unwritable(tmp_path / "new" / "x") == ""
    assert "File name too long" in files.why_unwritable(tmp_path / ("d" * 300) / "x")
    monkeypatch.setattr(Path, "exists", refuse(errno.EACCES))  # root may look into every folder
    assert files.why_unwritable(tmp_path / "a" / "x") == f"no permission to write to {tmp_path / 'a'}"
