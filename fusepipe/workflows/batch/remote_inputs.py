"""Inputs and manifests on other machines, whatever fsspec opens (``https://``, ``s3://``, ``gs://``): copied first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fusepipe.config.locations import LIVE_SCHEMES, scheme_of
from fusepipe.config.schema import Rig
from fusepipe.core.errors import FusepipeError, SourceError, UsageError
from fusepipe.core.redact import redact_url

_OTHERS = ("", "file", "synthetic", *(scheme for scheme in LIVE_SCHEMES if scheme not in ("http", "https")))
_CHANGE_KEYS = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


class FetchError(FusepipeError):
    """A remote input could not be copied; another attempt may help."""

    exit_code = SourceError.exit_code


def is_remote(url: str) -> bool:
    """Whether an input is a file on another machine; an ``http://`` one is a recording here, not a camera."""
    return scheme_of(url) not in _OTHERS


def remote_name(url: str) -> str:
    """The name of a remote file, without what follows a ``?`` or ``#``."""
    return PurePosixPath(url.partition("://")[2].partition("?")[0].partition("#")[0]).name


def remote_stamp(url: str) -> list[tuple[str, str]]:
    """What changes when the remote file does: its size, and the tag or time that its server gives.

    Raises :class:`SourceError` where there is no such file, :class:`FetchError` where it cannot be reached.
    """
    info = _call(url, lambda files, path: files.info(path))
    return [(key, str(info[key])) for key in _CHANGE_KEYS if info.get(key) is not None]


def remote_folder(url: str) -> str:
    """The folder of a remote file, with a slash at its end, and without what follows a ``?`` or ``#``."""
    return f"{url.partition('?')[0].partition('#')[0].rpartition('/')[0]}/"


def fetch(url: str, path: Path) -> None:
    """Copies a remote file to ``path``. Errors as :func:`remote_stamp`."""
    _call(url, lambda files, name: files.get_file(name, str(path)))


def with_local_inputs(rig: Rig, remote: Mapping[str, str], folder: Path) -> Rig:
    """The rig with copies of its ``remote`` inputs (by camera) in ``folder``. Errors as :func:`remote_stamp`."""
    changed = {}
    for camera, url in remote.items():
        path = folder / camera / remote_name(url)
        path.parent.mkdir()
        fetch(url, path)
        changed[camera] = getattr(rig, camera).model_copy(update={"url": str(path)})
    return rig.model_copy(update=changed)


def _call(url: str, use: Any) -> Any:
    """What ``use`` returns for the file system and the path of a URL."""
    shown = redact_url(url)
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UsageError(f"{shown}: remote files need fsspec: pip install 'fusepipe[batch]'") from error
    try:
        return use(*url_to_fs(url))
    except FileNotFoundError as error:
        cause = error.__cause__  # HTTP: whatever went wrong, also a server that is down
        if cause is not None and getattr(cause, "status", None) not in (404, 410):
            raise FetchError(f"{shown}: cannot be fetched: {str(cause) or type(cause).__name__}") from error
        raise SourceError(f"{shown}: no such file") from error
    except PermissionError as error:
        raise SourceError(f"{shown}: permission denied") from error
    except (ImportError, ValueError) as error:  # a scheme without its package, or that nobody knows
        raise UsageError(f"{shown}: {error}") from error
    except Exception as error:  # each file system has errors of its own
        raise FetchError(f"{shown}: cannot be fetched: {str(error) or type(error).__name__}") from error
