"""Video files as their source reads them, for tests."""

import threading

from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.files.video_file import VideoFileSource


def read(path, band=Band.VISIBLE, **options):
    """All frames of a file."""
    source = VideoFileSource(path, band, **options)
    source.open()
    try:
        return list(source.frames(threading.Event()))
    finally:
        source.close()
