"""Hardware decoding: which decoder is chosen and why, and the change to software at any packet without a lost frame.

There is no GPU here: the devices that do not open are real ones. A decoder that fails later is a software decoder that
delivers what a device does (semi-planar frames) and then fails as FFmpeg does for a lost device.
"""

from __future__ import annotations

import logging
import threading
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
from av.codec.context import CodecContext
from helpers.live_sources import SLOW, collect
from helpers.ports import free_port

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame
from fusepipe.core.video_formats import DecoderName
from fusepipe.pipeline.sources.decoders import stream_decoder
from fusepipe.pipeline.sources.decoders.hardware import choose_decoder, decoder_problem
from fusepipe.pipeline.sources.decoders.kinds import HARDWARE, DecoderChoice, HardwareDecoder
from fusepipe.pipeline.sources.decoders.stream_decoder import HardwareDecoderError, StreamDecoder
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.sources.live.camera import LiveSource
from fusepipe.pipeline.sources.live.connection_options import LiveOptions

NO_GPU = bool(decoder_problem(HARDWARE[0]))
without_gpu = pytest.mark.skipif(not NO_GPU, reason="there is a GPU that decodes")
BARE_CUDA = HardwareDecoder("nvdec", "cuda")  # whose libraries are not looked for: FFmpeg says what is missing
SIZE, FRAMES, GOP = (96, 64), 30, 10


@pytest.fixture(scope="module", params=["libx264", "libx265"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three groups of pictures with B-frames, so that frames leave the decoder later and in another order."""
    try:
        av.codec.Codec(request.param, "w")
    except ValueError:
        pytest.skip(f"this FFmpeg has no {request.param}")
    path = tmp_path_factory.mktemp("video") / f"{request.param}.mkv"
    with av.open(str(path), "w") as container:
        options = {"bf": "2", "x265-params": "log-level=none"} if request.param == "libx265" else {"bf": "2"}
        stream = container.add_stream(request.param, rate=25, options={**options, "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = GOP, 2
        noise = np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8)
        for index in range(FRAMES):
            image = np.roll(np.kron(noise, np.ones((12, 12), np.uint8))[: SIZE[1] * 3 // 2, : SIZE[0]], index, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "yuv420p")))
        container.mux(stream.encode(None))
    return path


class Device:
    """A hardware decoder that decodes ``good`` packets and then fails with ``error``."""

    def __init__(self, good: int, error: type[av.FFmpegError] = av.error.ExternalError) -> None:
        self.good, self.error = good, error
        self.opened = self.asked = 0

    def open(self, stream: av.VideoStream) -> StreamDecoder:
        def opened(codec: str) -> stream_decoder.Decode:
            self.opened += 1
            context = CodecContext.create(codec, "r")
            context.extradata, context.thread_count = stream.codec_context.extradata, 1

            def decode(packet: av.Packet) -> list[av.VideoFrame]:
                self.asked += 1
                if self.asked > self.good:
                    raise self.error(1, "the device is lost")
                return [frame.reformat(format="nv12") for frame in context.decode(packet)]

            return decode

        return StreamDecoder(stream, DecoderChoice(BARE_CUDA, ""), "camera", opened)


def decoded(path: Path, device: Device | None) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        decoder = StreamDecoder(stream, DecoderChoice(None, ""), "camera") if device is None else device.open(stream)
        frames = []
        for packet in container.demux(stream):
            try:
                frames += decoder.decode(packet)
            except av.InvalidDataError:
                continue
        return frames


def same(given: list[av.VideoFrame], expected: list[av.VideoFrame]) -> bool:
    return [frame.pts for frame in given] == [frame.pts for frame in expected] and all(
        a.format.name == b.format.name and np.array_equal(a.to_ndarray(), b.to_ndarray())
        for a, b in zip(given, expected, strict=True)
    )


# -- what is chosen


@without_gpu
def test_auto_decodes_in_software_and_says_why() -> None:
    choice = choose_decoder("auto")
    assert choice.hardware is None and "NVIDIA" in choice.reason
    assert choose_decoder("software").hardware is None
    with pytest.raises(
        SourceError, match=r"decoder: nvdec does not work here: .*NVIDIA.*decoder: auto decodes in soft"
    ):
        choose_decoder("nvdec")


def test_every_hardware_decoder_can_be_named() -> None:
    assert set(get_args(DecoderName)) == {"auto", "software", *(kind.name for kind in HARDWARE)}


@without_gpu
@pytest.mark.parametrize("device_type", ["cuda", "no-such-device"])
def test_a_device_is_tried_once_and_a_failure_is_logged(device_type: str, caplog: pytest.LogCaptureFixture) -> None:
    kind = HardwareDecoder(f"tried once {device_type}", device_type)
    with caplog.at_level(logging.INFO):
        assert decoder_problem(kind) == decoder_problem(kind) != ""
    # an FFmpeg without the device is no failure; its line would be in each run of most machines
    failure = f"video is decoded in software: {kind.name}: {decoder_problem(kind)}"
    assert [record.getMessage() for record in caplog.records] == ([failure] if device_type == "cuda" else [])


def test_a_library_that_is_missing_is_the_reason_and_no_news(caplog: pytest.LogCaptureFixture) -> None:
    kind = HardwareDecoder("x", "cuda", (("libno-such-library.so.7", "no driver of that kind"),))
    with caplog.at_level(logging.INFO):
        assert decoder_problem(kind) == "no driver of that kind"
    assert caplog.records == []


# -- a device that does not open


@without_gpu
def test_a_device_that_does_not_open_is_replaced_by_software(video: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(decoder: DecoderChoice) -> list[Frame]:
        source = VideoFileSource(video, Band.VISIBLE, decoder=decoder)
        source.open()
        frames = list(source.frames(threading.Event()))
        source.close()
        return [frame for frame in frames if isinstance(frame, Frame)]

    expected, given = read(DecoderChoice(None, "")), read(DecoderChoice(BARE_CUDA, ""))
    assert len(given) == len(expected) == FRAMES
    for one, other in zip(given, expected, strict=True):
        assert one.capture_ns == other.capture_ns and len(one.planes) == 3
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one.planes, other.planes, strict=True))
    assert f"{video}: nvdec does not decode it, decoding in software: " in caplog.text
    with pytest.raises(HardwareDecoderError, match=r"decoder: nvdec does not decode this stream .*decoder: auto"):
        read(DecoderChoice(BARE_CUDA, "", required=True))


@without_gpu
def test_a_live_camera_is_decoded_in_software_if_the_device_does_not_open(caplog: pytest.LogCaptureFixture) -> None:
    port, stop = free_port(), threading.Event()

    def send() -> None:
        with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=25, options={"tune": "zerolatency", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = *SIZE, "yuv420p", 5
            number = 0
            while not stop.wait(0.04):
                frame = av.VideoFrame.from_ndarray(
                    np.full((SIZE[1] * 3 // 2, SIZE[0]), number % 200, np.uint8), "yuv420p"
                )
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
                number += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        options = LiveOptions(
            open_timeout_ns=SLOW.open_timeout_ns,
            stall_timeout_ns=SLOW.stall_timeout_ns,
            decoder=DecoderChoice(BARE_CUDA, ""),
        )
        frames = collect(LiveSource(f"udp://127.0.0.1:{port}", Band.VISIBLE, options), 10, timeout_s=60)
    finally:
        stop.set()
        sender.join()
    assert len(frames) >= 10 and len(frames[0].planes) == 3
    assert "nvdec does not decode it, decoding in software" in caplog.text


# -- a device that fails later


@pytest.mark.parametrize("good", [0, 1, GOP - 1, GOP, GOP + 1, GOP + 5, FRAMES - 1, FRAMES, FRAMES + 5])
def test_no_frame_is_lost_or_repeated_at_the_change(good: int, video: Path, caplog: pytest.LogCaptureFixture) -> None:
    device, expected = Device(good), decoded(video, None)
    assert same(decoded(video, device), expected) and len(expected) == FRAMES
    assert device.opened == 1 and device.asked == min(good, FRAMES) + 1  # packets and the flush at the end
    assert ("the device is lost" in caplog.text) == (good <= FRAMES)


def test_in_a_long_group_of_pictures_software_begins_at_the_next_key_frame(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_decoder, "MAX_KEPT_PACKETS", 4)
    expected, given = decoded(video, None), decoded(video, Device(GOP + 6))
    times, wanted = [frame.pts for frame in given], [frame.pts for frame in expected]
    assert len(set(times)) == len(times) and set(times) < set(wanted)
    assert times[-GOP:] == wanted[-GOP:] and same(given[-GOP:], expected[-GOP:])


@pytest.mark.parametrize(("damaged", "changes"), [(2, False), (3, True)])
def test_damage_is_an_error_until_there_is_too_much_of_it(damaged: int, changes: bool, video: Path) -> None:
    """Damaged packets are reported as such; a device that takes none any more is given up."""

    class Damaging(Device):
        def open(self, stream: av.VideoStream) -> StreamDecoder:
            decoder = super().open(stream)
            self.decoder = decoder
            return decoder

    device = Damaging(GOP + 2, av.InvalidDataError)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        decoder = device.open(stream)
        packets = list(container.demux(stream))[: GOP + 2 + damaged]
        for packet in packets[: GOP + 2]:
            decoder.decode(packet)
        for packet in packets[GOP + 2 : GOP + 4]:
            with pytest.raises(av.InvalidDataError):
                decoder.decode(packet)
        assert decoder.in_hardware
        if changes:
            assert decoder.decode(packets[-1])
        assert decoder.in_hardware is not changes


def test_a_required_device_that_fails_is_an_error_with_the_fix(video: Path) -> None:
    def opened(codec: str) -> stream_decoder.Decode:
        def decode(packet: av.Packet) -> list[av.VideoFrame]:
            raise av.error.ExternalError(1, "profile 4:4:4 is not supported")

        return decode

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        decoder = StreamDecoder(stream, DecoderChoice(BARE_CUDA, "", required=True), "x.mkv", opened)
        with pytest.raises(HardwareDecoderError, match=r"x.mkv: decoder: nvdec .*4:4:4.*; decoder: auto decodes"):
            decoder.decode(next(container.demux(stream)))
