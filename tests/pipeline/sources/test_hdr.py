"""HLG and PQ video to BT.709, against FFmpeg's zscale and tonemap filters, and against each other."""

import subprocess

import numpy as np
import pytest
from helpers.video_files import read

from fusepipe.core.frames import Band, Plane
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.sources.hdr import PEAK, hdr_planes

TRC = {"PQ": "smpte2084", "HLG": "arib-std-b67"}
TO_SDR = (
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,"
    f"tonemap=mobius:desat=0:peak={PEAK:.4f},zscale=t=bt709:m=bt709:r=tv,format=yuv444p"
)
TO_709 = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]  # ITU-R BT.2087
LUMA = np.array([0.2627, 0.6780, 0.0593])


@pytest.fixture(scope="module")
def zscale(ffmpeg):
    """Runs the reference on (Y, Cb, Cr) of 10 bits, 4:4:4; skips where this ffmpeg has no zscale."""
    filters = subprocess.run([ffmpeg, "-v", "error", "-filters"], capture_output=True, text=True, check=True)
    if " zscale " not in filters.stdout:
        pytest.skip("this ffmpeg has no zscale filter")

    def convert(planes, transfer):
        height, width = planes[0].shape
        tags = f"setparams=color_primaries=bt2020:color_trc={TRC[transfer]}:colorspace=bt2020nc:range=tv"
        command = [
            ffmpeg,
            "-v",
            "error",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv444p10le",
            "-s",
            f"{width}x{height}",
            "-i",
            "-",
        ]
        command += ["-vf", f"{tags},{TO_SDR}", "-f", "rawvideo", "-"]
        ran = subprocess.run(command, input=np.stack(planes).tobytes(), capture_output=True, check=True, timeout=60)
        return np.frombuffer(ran.stdout, np.uint8).reshape(3, height, width)

    return convert


def encoded(rgb):
    """(Y, Cb, Cr) of 10 bits, limited range, of HxWx3 R'G'B'."""
    y = rgb @ LUMA
    cb, cr = (rgb[..., 2] - y) / 1.8814, (rgb[..., 0] - y) / 1.4746
    return [np.rint(v).astype(np.uint16) for v in (64 + 876 * y, 512 + 896 * cb, 512 + 896 * cr)]


def mapped(planes, transfer):
    return np.stack([p.pixels for p in hdr_planes(tuple(Plane(p, 10, "limited") for p in planes), transfer)]).astype(
        int
    )


@pytest.mark.parametrize("transfer", TRC)
def test_greys_are_those_of_zscale(zscale, transfer):
    ramp = encoded(np.linspace(0, 1, 512)[None, :, None].repeat(8, 0).repeat(3, 2))
    ours, theirs = mapped(ramp, transfer), zscale(ramp, transfer)
    assert np.abs(ours - np.minimum(theirs, 235)).max() <= 1, "zscale goes beyond white above 1000 cd/m²"
    assert np.all(np.diff(ours[0, 0]) >= 0) and ours[0].min() == 16 and ours[0].max() == 235


def light_in_709(seed):
    """HxWx3 light in units of 10000 cd/m², in primaries of BT.2020, of colours that BT.709 has."""
    colours = np.random.default_rng(seed).uniform(0.02, 1, (12, 16, 3)).repeat(4, 0).repeat(4, 1) * 0.07
    return colours @ np.linalg.inv(TO_709).T


def in_pq(light):
    power = light**0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def test_colours_of_pq_are_those_of_zscale(zscale):
    patches = encoded(in_pq(light_in_709(0)))
    assert np.abs(mapped(patches, "PQ") - zscale(patches, "PQ")).max() <= 3


def test_the_same_light_in_hlg_and_pq_looks_the_same():
    """The light of a 1000 cd/m² display (ITU-R BT.2100): HLG's system gamma acts on the luminance, PQ has none."""
    light = light_in_709(1)
    scene = light * 10 * (light @ LUMA * 10)[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    hlg = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-6)) + c)
    assert hlg.max() < 1.0
    assert np.abs(mapped(encoded(hlg), "HLG") - mapped(encoded(in_pq(light)), "PQ")).max() <= 3


def test_the_luma_keeps_its_detail_where_the_chroma_is_subsampled():
    y = (64 + np.random.default_rng(2).integers(0, 600, (48, 64))).astype(np.uint16)
    grey = np.full((24, 32), 512, np.uint16)
    fine, _, _ = hdr_planes((Plane(y, 10, "limited"), *[Plane(grey, 10, "limited")] * 2), "PQ")
    full, _, _ = hdr_planes((Plane(y, 10, "limited"), *[Plane(np.full_like(y, 512), 10, "limited")] * 2), "PQ")
    assert np.abs(fine.pixels.astype(int) - full.pixels).max() <= 3


@pytest.fixture(scope="module")
def clips(ffmpeg, tmp_path_factory):
    """A grey of 58 % of each signal range, and the same samples without HDR tags."""
    folder = tmp_path_factory.mktemp("hdr")
    for name, trc in {**TRC, "SDR": "bt2020-10"}.items():
        source = [
            "-f",
            "lavfi",
            "-i",
            "color=gray:s=64x48:r=25:d=0.4",
            "-vf",
            "format=yuv420p10le,lutyuv=y=572:u=512:v=512",
        ]
        tags = ["-color_primaries", "bt2020", "-color_trc", trc, "-colorspace", "bt2020nc", "-color_range", "tv"]
        command = [ffmpeg, "-v", "error", *source, "-c:v", "ffv1", *tags, folder / f"{name}.mkv"]
        subprocess.run([str(word) for word in command], check=True, timeout=60)
    return folder


# the levels are those of zscale
@pytest.mark.parametrize(
    ("name", "level", "matrix"), [("PQ", 202, "bt709"), ("HLG", 161, "bt709"), ("SDR", 143, "bt2020")]
)
def test_a_recording_is_mapped_once_and_says_so(clips, name, level, matrix):
    source = VideoFileSource(clips / f"{name}.mkv", Band.VISIBLE)
    notes = source.open().notes
    source.close()
    assert [f"is HDR ({name})" in note for note in notes] == ([True] if name != "SDR" else [])
    frame = read(clips / f"{name}.mkv")[0]
    assert abs(int(frame.luma.pixels[0, 0]) - level) <= 1 and frame.matrix == matrix
    assert [int(plane.pixels[0, 0]) for plane in frame.chroma] == [128, 128]


def test_infrared_video_keeps_its_counts(clips):
    frame = read(clips / "PQ.mkv", Band.INFRARED)[0]
    assert frame.luma.bit_depth == 10 and int(frame.luma.pixels[0, 0]) == 572
