"""``fusepipe data tno``: copies and downloads are recognised, verified and arranged; nothing wrong gets in."""

import io
import json
import shutil
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.cli import main
from fusepipe.core.errors import SourceError
from fusepipe.evaluation.tno_catalogue import catalogue, digest, match_items, still_pair_names, tno_folder
from fusepipe.workflows.data_tno.arrange import NOT_RELEASED
from fusepipe.workflows.data_tno.download import MAX_BYTES, download, figshare_file


@pytest.fixture
def data(capsys):
    """Calls ``data tno``; gives exit code, standard output, standard error."""

    def call(*args):
        with pytest.raises(SystemExit) as stopped:
            main(["data", "tno", *map(str, args)])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def release(data_dir, tmp_path_factory):
    """A zip in the layout of the release: names and formats as there, and things that are not wanted."""
    file = tmp_path_factory.mktemp("release") / "TNO_Image_Fusion_Dataset.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        # three pairs are also frames of sequences
        for item in {item.release_file: item for item in catalogue()}.values():
            if item.release_file:
                pixels = cv2.imread(str(data_dir / "tno" / item.file), cv2.IMREAD_UNCHANGED)
                if "Triclobs" in item.release_file:
                    pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)  # many are stored as three equal channels
                suffix = "." + item.release_file.rpartition(".")[2].lower()
                name = f"TNO_Image_Fusion_Dataset/{item.release_file}"
                archive.writestr(name, cv2.imencode(suffix, pixels)[1].tobytes())
        archive.writestr("TNO_Image_Fusion_Dataset/README.txt", "credit is to be given")
        archive.writestr("../../outside.png", b"not an image")
        archive.writestr("/etc/absolute.bmp", cv2.imencode(".bmp", np.zeros((4, 4), np.uint8))[1].tobytes())
    return file


@pytest.fixture
def server(monkeypatch):
    """Serves what a test puts into ``pages``: path -> (status, headers, body); gives the address and the pages."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    pages = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = pages.get(self.path, (404, {}, b"no"))
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                if value is not None:
                    self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), name="http")
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", pages
        http.shutdown()
        thread.join()


def test_the_catalogue_is_the_arranged_folder(data_dir):
    files = {p.relative_to(data_dir / "tno").as_posix() for p in (data_dir / "tno").rglob("*.png")}
    assert {item.file for item in catalogue()} == files
    item = catalogue()[100]
    pixels = cv2.imread(str(data_dir / "tno" / item.file), cv2.IMREAD_UNCHANGED)
    assert digest(pixels) == item.pixels_sha256 and pixels.shape == (item.height, item.width)


def test_the_selections_of_pairs():
    assert len(still_pair_names("n42")) == 42 and len(still_pair_names("n25")) == 25
    assert still_pair_names("n25") < still_pair_names("n42")


def test_names_are_found_in_both_layouts_whatever_the_case():
    item = next(i for i in catalogue() if i.file == "pairs/vis/wall.png")
    assert item.release_file == "DHV_images/wall/VIS_163dhvR.BMP"
    paths = ["x/dhv_images/Wall/vis_163dhvr.bmp", "pairs/vis/wall.png", "other/vis_163dhvr.bmp", "VIS/wall.png"]
    assert match_items(paths, [item]) == {item: ["x/dhv_images/Wall/vis_163dhvr.bmp", "pairs/vis/wall.png"]}


def test_without_a_source_it_says_where_to_get_the_data(data, tmp_path, monkeypatch):
    monkeypatch.setenv("FUSEPIPE_TNO", str(tmp_path / "none"))
    code, out, _ = data()
    assert code == 0 and "10.6084/m9.figshare.1008029" in out and "TNO, Soesterberg" in out
    assert "Nothing is arranged" in out
    document = json.loads(data("--json")[1])
    assert document["complete"] is None and "figshare" in document["credit"]["about"]


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("FUSEPIPE_TNO", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert tno_folder() == tmp_path / "fusepipe" / "tno"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert tno_folder().is_absolute()
    monkeypatch.setenv("FUSEPIPE_TNO", str(tmp_path / "mine"))
    assert tno_folder() == tmp_path / "mine"


@pytest.mark.data
def test_an_arranged_copy_is_copied_pixel_by_pixel_and_verified(data, data_dir, tmp_path):
    code, out, err = data("--from", data_dir / "tno", "--to", tmp_path / "tno")
    assert code == 0, err
    assert "84 of  84 images verified" in out.replace("84 of 84", "84 of  84") and "not there" not in out
    for item in catalogue()[::25]:
        copy, original = (cv2.imread(str(f / item.file), -1) for f in (tmp_path / "tno", data_dir / "tno"))
        assert np.array_equal(copy, original)
    assert data("--to", tmp_path / "tno")[0] == 0
    (tmp_path / "tno" / "pairs" / "ir" / "wall.png").unlink()
    cv2.imwrite(str(tmp_path / "tno" / "pairs" / "ir" / "lake.png"), np.zeros((9, 9), np.uint8))
    code, out, _ = data("--to", tmp_path / "tno", "--json")
    document = json.loads(out)
    assert code == 3 and not document["ok"] and document["complete"]["pairs"] == {"have": 82, "of": 84}
    assert list(document["missing"]) == ["pairs/ir/wall.png"] and list(document["different"]) == ["pairs/ir/lake.png"]


@pytest.mark.data
def test_a_download_of_the_release_is_arranged(data, server, release, tmp_path):
    address, pages = server
    pages["/files/1"] = (302, {"Location": "/data.zip"}, b"")
    pages["/data.zip"] = (200, {"Content-Type": "application/zip"}, release.read_bytes())
    code, out, err = data("--from", f"{address}/files/1", "--to", tmp_path / "tno", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["complete"] == {
        "nato_camp": {"have": 64, "of": 64},
        "tree": {"have": 38, "of": 38},
        "duine": {"have": 46, "of": 46},
        "pairs": {"have": 77, "of": 84},
    }
    assert set(document["missing"].values()) == {NOT_RELEASED} and document["different"] == {}
    assert [p.name for p in tmp_path.iterdir()] == ["tno"] and not list(tmp_path.rglob("*outside*"))


@pytest.mark.data
def test_other_names_are_recognised_by_content(data, data_dir, tmp_path):
    (tmp_path / "copy" / "vi").mkdir(parents=True)
    shutil.copy(data_dir / "tno" / "pairs" / "vis" / "other_leaves.png", tmp_path / "copy" / "vi" / "08.png")
    code, out, err = data("--from", tmp_path / "copy", "--to", tmp_path / "tno", "--json")
    assert code == 0, err
    assert json.loads(out)["complete"]["pairs"]["have"] == 1
    assert (tmp_path / "tno" / "pairs" / "vis" / "other_leaves.png").is_file()


@pytest.mark.data
def test_an_image_with_other_pixels_is_left_out_and_named(data, data_dir, tmp_path):
    shutil.copytree(data_dir / "tno" / "pairs", tmp_path / "copy" / "pairs")
    spoilt = tmp_path / "copy" / "pairs" / "vis" / "lake.png"
    pixels = cv2.imread(str(spoilt), -1)
    pixels[0, 0] ^= 1
    cv2.imwrite(str(spoilt), pixels)
    code, out, _ = data("--from", tmp_path / "copy", "--to", tmp_path / "tno")
    assert code == 3 and "pairs/vis/lake.png: its pixels differ" in out
    assert (tmp_path / "tno" / "pairs" / "ir" / "lake.png").is_file()
    assert not (tmp_path / "tno" / "pairs" / "vis" / "lake.png").exists()


@pytest.mark.data
def test_an_existing_folder_is_replaced_only_when_asked(data, data_dir, tmp_path):
    (tmp_path / "tno").mkdir()
    (tmp_path / "tno" / "mine.txt").write_text("keep")
    args = ["--from", data_dir / "tno", "--to", tmp_path / "tno"]
    code, _, err = data(*args)
    assert code == 5 and "--overwrite" in err and (tmp_path / "tno" / "mine.txt").exists()
    assert data(*args, "--overwrite")[0] == 0
    assert not (tmp_path / "tno" / "mine.txt").exists() and [p.name for p in tmp_path.iterdir()] == ["tno"]


@pytest.mark.data
def test_an_interrupt_while_it_is_replaced_leaves_the_old_folder(data, data_dir, tmp_path, monkeypatch):
    (tmp_path / "tno").mkdir()
    (tmp_path / "tno" / "mine.txt").write_text("keep")
    rename = Path.rename

    def interrupted(path, target):
        if path.name == "tno" and target == tmp_path / "tno":  # the new folder; the old one is moved aside by now
            assert not target.exists()
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    code, _, err = data("--from", data_dir / "tno", "--to", tmp_path / "tno", "--overwrite")
    assert code == 130 and "interrupted" in err
    assert (tmp_path / "tno" / "mine.txt").read_text() == "keep" and [p.name for p in tmp_path.iterdir()] == ["tno"]


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return buffer.getvalue()


WRONG = {
    "404": ((404, {}, b"gone"), "the server answers 404"),
    "web page": ((200, {"Content-Type": "text/html"}, b"<!doctype html>"), "is a web page, not an archive"),
    "web page in disguise": ((200, {}, b"<!DOCTYPE html><p>"), "but a web page"),
    "truncated zip": ((200, {}, archive(a="b" * 999)[:500]), "is not a complete zip archive"),
    "early end": ((200, {"Content-Length": "5000"}, archive(a="b")), "connection"),
    "nothing of it": ((200, {}, archive(**{"a.txt": "b"})), "has no image of the TNO data set"),
    "redirect to a file": ((302, {"Location": "file:///etc/passwd"}, b""), "file:///etc/passwd"),
    "redirect loop": ((302, {"Location": "/x"}, b""), "the server answers 302"),
    "too large": ((200, {"Content-Length": str(MAX_BYTES + 1)}, b""), "more than the"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_downloads_get_one_line_and_leave_nothing(data, server, tmp_path, case):
    address, pages = server
    pages["/x"], words = WRONG[case]
    code, out, err = data("--from", f"{address}/x", "--to", tmp_path / "tno")
    assert code == 3, err
    assert words in err and err.count("\n") == 1 and out == ""
    assert list(tmp_path.iterdir()) == []


def test_invalid_sources_are_reported(data, tmp_path):
    for place, words in (("nowhere.zip", "no such file"), ("ftp://example.org/a.zip", "only http and https")):
        code, _, err = data("--from", place, "--to", tmp_path / "tno")
        assert code == 3 and words in err
    assert list(tmp_path.iterdir()) == []


def test_the_largest_zip_of_the_article_is_taken(server):
    address, pages = server
    files = [
        {"name": "README.txt", "size": 9_999, "download_url": "a"},
        {"name": "small.zip", "size": 10, "download_url": "b"},
        {"name": "TNO.zip", "size": 1_000, "download_url": "c", "computed_md5": "abc"},
    ]
    pages["/api"] = (200, {}, json.dumps({"files": files}).encode())
    assert figshare_file(f"{address}/api") == ("c", "abc")
    pages["/api"] = (200, {}, b'{"files": []}')
    with pytest.raises(SourceError, match="does not list a zip"):
        figshare_file(f"{address}/api")


def test_a_wrong_md5_is_noticed(server, tmp_path):
    address, pages = server
    pages["/a.zip"] = (200, {}, archive(a="b"))
    with pytest.raises(SourceError, match="MD5"):
        download(f"{address}/a.zip", tmp_path / "a.zip", lambda done, total: None, md5="0" * 32)


def test_a_stream_without_end_stops_at_the_limit(server, tmp_path):
    address, pages = server
    pages["/a.zip"] = (200, {"Content-Length": None}, bytes(50_000))
    with pytest.raises(SourceError, match="more than the 1000 bytes"):
        download(f"{address}/a.zip", tmp_path / "a.zip", lambda done, total: None, max_bytes=1000)
