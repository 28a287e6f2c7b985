"""16-bit inputs that would come out as fog, nearly black or as contours are reported with the option that helps."""

import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np
import pytest

from fusepipe.core.frames import Band
from fusepipe.core.image_files import stated_byte_order
from fusepipe.pipeline.sources.live.connection import LiveConnection
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.rig.api import Pipeline, load_rig
from fusepipe.rig.fuse import FuseOptions, fuse_pipeline

GREY = cv2.circle(np.full((120, 160), 60, np.uint8), (110, 75), 30, 230, -1)
COUNTS = (29315 + (GREY.astype(float) - 60) / 170 * 1500).astype(np.uint16)


@pytest.fixture
def images(tmp_path):
    dead = COUNTS.copy()
    dead[5, 5], dead[7, 9] = 0, 65535
    made = {
        "ir": GREY,
        "vis": cv2.merge([GREY] * 3),
        "fog": COUNTS,
        "dead": dead,
        "swapped": COUNTS.byteswap(),
        "vis12": cv2.merge([GREY] * 3).astype(np.uint16) * 16,
        "vis_swapped": COUNTS.byteswap(),
    }
    for name, pixels in made.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    return tmp_path


def fuse(folder, infrared, visible, **options):
    inputs = folder / f"{infrared}.png", folder / f"{visible}.png"
    report = fuse_pipeline(FuseOptions(*inputs, folder / "out.png", model="max", overwrite=True, **options)).run()
    return report.warnings, cv2.imread(str(folder / "out.png"), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("infrared", ["fog", "dead"])
def test_infrared_counts_in_fog_name_the_option(images, infrared):
    warnings, _ = fuse(images, infrared, "vis", agc="off")
    assert any("use 2.3% of the range" in text and "set --range 28940 31190" in text for text in warnings), warnings
    warnings, _ = fuse(images, infrared, "vis", value_range=(28940, 31190))
    assert warnings == []


def test_visible_counts_that_come_out_nearly_black_name_the_option(images):
    warnings, dark = fuse(images, "ir", "vis12")
    assert any(text.startswith("visible: counts 960..3680 use") and "--visible-range" in text for text in warnings)
    warnings, bright = fuse(images, "ir", "vis12", visible_range=(280, 4360))
    assert warnings == [] and bright.max() > dark.max() - 30


@pytest.mark.parametrize("band", ["infrared", "visible"])
def test_swapped_bytes_are_named_and_put_right(images, band):
    if band == "infrared":
        inputs, order, span = ("swapped", "vis"), {"byte_order": "little"}, {"value_range": (28940, 31190)}
    else:
        inputs, order = ("ir", "vis_swapped"), {"visible_byte_order": "little"}
        span = {"visible_range": (28940, 31190)}
    warnings, _ = fuse(images, *inputs)
    option = "--byte-order little" if band == "infrared" else "--visible-byte-order little"
    assert [text for text in warnings if "swapped" in text and text.endswith(f"set {option}")]
    warnings, fused = fuse(images, *inputs, **order, **span)
    assert warnings == [] and fused[75, 110] > fused[10, 10] + 100


def little_tiff(path, pixels):
    cv2.imwrite(str(path), pixels)
    assert stated_byte_order(path.read_bytes()) == "little"


def big_tiff(path, pixels):
    """Baseline TIFF 6.0, one uncompressed strip, "MM"."""
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: pixels.nbytes}
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags.items())
    ifd = struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0)
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8 + pixels.nbytes) + pixels.astype(">u2").tobytes() + ifd)


def video(path, pixels, form="gray16le", source="gray16le"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = form
        frame = av.VideoFrame.from_ndarray(pixels, format=source).reformat(format=form)
        container.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.mark.parametrize("band", ["infrared", "visible"])
@pytest.mark.parametrize(
    ("name", "write", "advice"),
    [("s.tiff", little_tiff, "big"), ("s.tiff", big_tiff, "little"), ("s.mkv", video, "big")],
)
def test_the_byte_order_that_is_named_helps(tmp_path, band, name, write, advice):
    write(tmp_path / name, COUNTS.byteswap())
    if name.endswith("mkv"):
        video(tmp_path / "other.mkv", GREY.astype(np.uint16) * 257)
    else:
        cv2.imwrite(str(tmp_path / "other.png"), GREY)
    other = next(tmp_path.glob("other.*"))
    inputs = (tmp_path / name, other) if band == "infrared" else (other, tmp_path / name)
    prefix = "" if band == "infrared" else "visible_"

    def warnings(**options):
        out = tmp_path / f"out{other.suffix}"
        return fuse_pipeline(FuseOptions(*inputs, out, model="max", overwrite=True, **options)).run().warnings

    key = f"{prefix}byte_order"
    assert [text for text in warnings() if text.endswith(f"set --{key.replace('_', '-')} {advice}")]
    span = {"value_range" if band == "infrared" else "visible_range": (28940, 31190)}
    assert not [text for text in warnings(**span, **{key: advice}) if band in text]
    # where the bytes were right, the other order swaps them, and the advice is the way back
    write(tmp_path / name, COUNTS)
    back = {"big": "little", "little": "big"}[advice]
    assert [text for text in warnings(**{key: advice}) if text.endswith(f" {back}")]


@pytest.mark.parametrize("form", ["rgb48le", "gbrp16le", "yuv420p16le"])
def test_visible_16_bit_colour_videos_that_come_out_nearly_black_name_the_option(tmp_path, form):
    video(tmp_path / "ir.mkv", np.full_like(GREY, 0), "gray", "gray")
    colour = cv2.merge([GREY, GREY, GREY // 2]).astype(np.uint16) * 16  # R, G, B, 12 bits
    video(tmp_path / "vis.mkv", colour, form, "rgb48le")

    def run(**options):
        inputs = tmp_path / "ir.mkv", tmp_path / "vis.mkv", tmp_path / "out.mkv"
        report = fuse_pipeline(FuseOptions(*inputs, model="max", overwrite=True, **options)).run()
        with av.open(str(tmp_path / "out.mkv")) as container:
            return report.warnings, next(container.decode(video=0)).to_ndarray(format="rgb24")

    warnings, dark = run()
    (text,) = [text for text in warnings if text.startswith("visible: counts")]
    *_, option, low, high = text.split()
    assert option == "--visible-range" and dark.max() < 40
    warnings, bright = run(visible_range=(int(low), int(high)))
    assert not [text for text in warnings if "counts" in text]
    red, _, blue = bright[75, 110].astype(int)
    assert red > bright[10, 10, 0] + 100 and red > blue + 60


@pytest.mark.parametrize("form", ["gray16le", "rgb48le", "yuv420p16le"])
def test_live_16_bit_streams_have_levels(tmp_path, form):
    colour = cv2.merge([GREY] * 3).astype(np.uint16) * 16
    video(tmp_path / "vis.mkv", colour, form, "rgb48le")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/vis.mkv"
        try:
            connection = LiveConnection(url, "vis", LiveOptions(), band=Band.VISIBLE)
            try:
                info = connection.info(next(connection.frames(threading.Event())))
            finally:
                connection.close()
        finally:
            server.shutdown()
            thread.join()
    assert info.levels is not None and info.levels.high - info.levels.low < 3000
    assert info.byte_order is None  # no setting of a live camera


def test_a_rig_names_its_keys(images):
    (images / "rigs.yaml").write_text(
        "schema: 1\nrigs: {r: {infrared: {url: swapped.png}, visible: {url: vis12.png}, "
        "fusion: {model: max}, sinks: [{images: out}]}}"
    )
    report = Pipeline(load_rig(images / "rigs.yaml")).run()
    assert any(text.startswith("infrared:") and "set byte_order: little" in text for text in report.warnings)
    assert any(text.startswith("visible:") and "set range: [280, 4360]" in text for text in report.warnings)


def test_a_closed_shutter_at_the_start_gives_no_warning_and_the_next_frame_is_checked(tmp_path):
    for folder, frames in (("ir", [np.full_like(COUNTS, 7000), COUNTS, COUNTS]), ("vis", [GREY] * 3)):
        (tmp_path / folder).mkdir()
        for index, pixels in enumerate(frames):
            cv2.imwrite(str(tmp_path / folder / f"{index}.png"), pixels)
    inputs = tmp_path / "ir", tmp_path / "vis", tmp_path / "out"
    report = fuse_pipeline(FuseOptions(*inputs, model="max", agc="off")).run()
    texts = [text for text in report.warnings if text.startswith("infrared: counts")]
    assert len(texts) == 1 and texts[0].endswith("set --range 28940 31190")
