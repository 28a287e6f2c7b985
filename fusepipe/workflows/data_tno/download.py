"""Downloads the archive of the TNO data set: one file over HTTP, with limits on size, time and redirects.

Not through pooch, which would lose checks: its HTTP downloader has no limit on size (neither what the server announces
nor what it sends), does not refuse a web page in place of an archive, and takes 30 redirects; its figshare downloader
reads an API answer of any length. What would be left of it is the hash, which is one line here.
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from fusepipe.core.errors import SinkError, SourceError
from fusepipe.core.version import __version__
from fusepipe.evaluation.tno_catalogue import ARTICLE, PAGE

API = f"https://api.figshare.com/v2/articles/{ARTICLE}"
TIMEOUT_S = 60.0  # without receiving any data
MAX_BYTES = 4_000_000_000  # over ten times the release
MAX_ANSWER_BYTES = 4_000_000
BLOCK_BYTES = 1 << 18

Advance = Callable[[int, int], None]


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only; urllib also follows them to ftp."""

    max_redirections = 5

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        require_web(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def require_web(url: str) -> None:
    """Raises :class:`SourceError` for anything but http and https."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise SourceError(f"{url}: only http and https addresses are downloaded")


def _open(url: str) -> Any:
    require_web(url)
    request = urllib.request.Request(url, headers={"User-Agent": f"fusepipe/{__version__}"})
    try:
        return urllib.request.build_opener(_WebOnly).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise SourceError(f"{url}: the server answers {error.code} {error.reason}; {_BY_HAND}") from error
    except (OSError, HTTPException) as error:
        raise SourceError(f"{url}: cannot be reached: {getattr(error, 'reason', error)}; {_BY_HAND}") from error


_BY_HAND = f"download the archive by hand from {PAGE} and give it to --from"


def download(url: str, target: Path, step: Advance, *, md5: str = "", max_bytes: int = MAX_BYTES) -> None:
    """``url`` to the file ``target``, which must not exist.

    ``step`` is called with the bytes so far and in total (0 where the server does not announce it). Raises
    :class:`SourceError` for anything that is not the complete file, :class:`SinkError` where it cannot
    be written; an incomplete file may be left behind for the caller to remove.
    """
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    with _open(url) as answer:
        announced = answer.headers.get("Content-Length", "")
        expected = int(announced) if announced.isdigit() else 0
        if expected > max_bytes:
            raise SourceError(f"{url}: has {expected} bytes, more than the {max_bytes} allowed")
        if "html" in answer.headers.get_content_type():
            raise SourceError(f"{url}: is a web page, not an archive; {_BY_HAND}")
        try:
            with target.open("xb") as file:
                while block := _block(answer, url):
                    done += len(block)
                    if done > max_bytes:
                        raise SourceError(f"{url}: has more than the {max_bytes} bytes allowed")
                    digest.update(block)
                    file.write(block)
                    step(done, expected)
        except OSError as error:
            raise SinkError(f"{target}: cannot be written: {error.strerror}") from error
    if expected and done != expected:
        raise SourceError(f"{url}: the connection ended early: {done} of {expected} bytes; try again")
    if md5 and digest.hexdigest() != md5.lower():
        raise SourceError(f"{url}: the file does not match the MD5 from figshare; try again")


def _block(answer: Any, url: str) -> bytes:
    try:
        block: bytes = answer.read(BLOCK_BYTES)
    except (OSError, HTTPException) as error:
        raise SourceError(f"{url}: the connection broke: {error or type(error).__name__}; try again") from error
    return block


def figshare_file(api: str = API) -> tuple[str, str]:
    """(address, MD5) of the archive among the files of the figshare article: its largest zip."""
    with _open(api) as answer:
        text = _limited(answer, api)
    try:
        files = [f for f in json.loads(text)["files"] if str(f["name"]).lower().endswith(".zip")]
        best = max(files, key=lambda f: int(f["size"]))
        return str(best["download_url"]), str(best.get("computed_md5") or "")
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{api}: does not list a zip file; {_BY_HAND}") from error


def _limited(answer: Any, url: str) -> bytes:
    try:
        text: bytes = answer.read(MAX_ANSWER_BYTES + 1)
    except (OSError, HTTPException) as error:
        raise SourceError(f"{url}: the connection broke: {error}") from error
    if len(text) > MAX_ANSWER_BYTES:
        raise SourceError(f"{url}: the answer is too long")
    return text
