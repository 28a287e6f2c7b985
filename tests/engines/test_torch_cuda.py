"""The torch backend of GPUs, on the CPU: what is captured, its precision, and that nothing is read from the device."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'fusepipe[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")

from helpers.engine_requests import PAIRS, smooth_image  # noqa: E402

from fusepipe.core.errors import EngineError, UsageError  # noqa: E402
from fusepipe.core.fuser import FusionBatch  # noqa: E402
from fusepipe.core.models import NETWORKS, network_shipped  # noqa: E402
from fusepipe.engines import choose, load  # noqa: E402
from fusepipe.engines.backends.cuda.api import Gpu  # noqa: E402
from fusepipe.engines.backends.torch.captured import CACHED_SIZES, Captured, Function, Images, TorchCudaFuser  # noqa: E402
from fusepipe.engines.backends.torch.interpreter import TorchGraph  # noqa: E402
from fusepipe.engines.builder.agreement import TOLERANCES, measure_agreement  # noqa: E402
from fusepipe.engines.load import load_model, read_onnx  # noqa: E402
from fusepipe.engines.onnx_graph import read_graph  # noqa: E402


class Graphs:
    """A double of capturing: as with a CUDA graph, inputs and output of a size are the same tensors at each call."""

    def __init__(self, memory: int = 1000) -> None:
        self.captured: list[tuple[int, ...]] = []
        self.replayed = 0
        self._memory = memory

    def capture(self, function: Function, images: Images) -> Captured:
        if len(self.captured) >= self._memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.captured.append(tuple(images[0].shape))
        addresses, output = [image.data_ptr() for image in images], function(*images).clone()

        def replay() -> torch.Tensor:
            assert [image.data_ptr() for image in images] == addresses, "other tensors than those of the capture"
            self.replayed += 1
            return output.copy_(function(*images))

        return replay


def on_cpu(graphs: Graphs, precision: str = "fp16", model: str = "stream") -> TorchCudaFuser:
    return TorchCudaFuser(model, read_onnx(model), precision, device="cpu", capture=graphs.capture)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_each_size_is_captured_once_and_images_agree_with_the_reference(precision: str) -> None:
    graphs = Graphs()
    odd = (smooth_image(1, 45, 61), smooth_image(2, 45, 61))
    pairs = [PAIRS[0], PAIRS[1], odd, PAIRS[2]]
    with on_cpu(graphs, precision) as fuser, load_model("stream", "openvino", "fp32") as exact:
        fuser.prepare(*PAIRS[0][0].shape)
        first = fuser.fuse(*PAIRS[0])
        given = [first, *(fuser.fuse(*pair) for pair in pairs[1:])]
        kept = first.copy()
        agreement = measure_agreement("fp32", pairs, [exact.fuse(*pair) for pair in pairs], given)
        assert agreement.psnr_db > TOLERANCES[precision].psnr_db and agreement.max_abs <= TOLERANCES[precision].max_abs
        assert np.array_equal(first, kept), "a result is the caller's: the next call must not overwrite it"
        assert len(graphs.captured) == 2 and graphs.replayed == 5
        both = fuser.submit(FusionBatch([p[0] for p in PAIRS[:2]], [p[1] for p in PAIRS[:2]])).result()
        assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(both, given[:2], strict=True))
        assert fuser.info.precision == precision


def test_callers_of_several_threads_get_their_own_images() -> None:
    graphs = Graphs()
    with on_cpu(graphs) as fuser:
        alone = [fuser.fuse(*pair) for pair in PAIRS]
        wrong: list[int] = []

        def fuse(index: int) -> None:
            wrong.extend(index for _ in range(20) if not np.array_equal(fuser.fuse(*PAIRS[index]), alone[index]))

        threads = [threading.Thread(target=fuse, args=(index,)) for index in range(len(PAIRS))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []


def test_the_oldest_size_is_freed_and_memory_that_is_out_is_an_engine_error() -> None:
    graphs = Graphs(memory=CACHED_SIZES + 2)
    with on_cpu(graphs) as fuser:
        for width in range(32, 32 + 16 * (CACHED_SIZES + 1), 16):
            fuser.prepare(32, width)
        fuser.prepare(32, 48)
        assert len(graphs.captured) == CACHED_SIZES + 1
        fuser.prepare(32, 32)
        assert len(graphs.captured) == CACHED_SIZES + 2, "the first size is captured again"
        with pytest.raises(EngineError, match="PyTorch cannot compute 400x64 on cpu: CUDA out of memory"):
            fuser.prepare(64, 400)
    with pytest.raises(EngineError, match="closed"):
        fuser.prepare(32, 32)


@pytest.mark.parametrize("model", sorted(name for name in NETWORKS if network_shipped(name)))
def test_nothing_is_read_from_the_device(model: str) -> None:
    """On tensors without content, whose values cannot be read: a CUDA graph cannot be captured if any is."""
    meta = torch.device("meta")
    graph = TorchGraph(read_graph(read_onnx(model), model), meta, channels_last=True)
    images = [torch.zeros((2, 1, 32, 48), dtype=torch.uint8, device=meta) for _ in range(2)]
    assert graph(*images).shape == (2, 1, 32, 48)


def test_what_it_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="it has fp16 and fp32"):
        on_cpu(Graphs(), "int8")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="this PyTorch finds no GPU"):
            TorchCudaFuser("stream", read_onnx("stream"))
        with pytest.raises(EngineError, match="fp32 on the CPU, and no GPU can be used"):
            load_model("stream", "torch", "fp16")


@pytest.mark.parametrize("memory", [1000, 0])
def test_auto_takes_pytorch_where_there_is_no_tensorrt(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("RTX 4090", "SM89", "13.0", "13.0", 1)
    monkeypatch.setattr(choose, "gpu_here", lambda device=None: (gpu, ""))
    monkeypatch.setattr(choose, "package_installed", lambda backend: False)
    monkeypatch.setattr("fusepipe.engines.backends.torch.captured.cuda_available", lambda: True)
    devices: list[str] = []

    def opened(model: str, onnx: bytes, precision: str, *, reason: str, device: str) -> TorchCudaFuser:
        devices.append(device)
        graphs = Graphs(memory)
        return TorchCudaFuser(model, onnx, precision, reason=reason, device="cpu", capture=graphs.capture)

    monkeypatch.setattr("fusepipe.engines.backends.torch.captured.TorchCudaFuser", opened)
    with load.load_model("stream") as fuser:
        assert devices == ["cuda:1"]
        if memory:
            assert fuser.info.backend == "torch" and fuser.info.precision == "fp16"
            assert fuser.info.reason == "auto: RTX 4090 with PyTorch (TensorRT is not installed)"
        else:
            assert fuser.info.backend == "openvino" and "out of memory" in fuser.info.reason


def test_fp32_is_not_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN multiplies fp32 with a 10-bit mantissa unless it is told not to."""
    seen = []

    class Seen(TorchGraph):
        def __call__(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().__call__(infrared, visible)

    monkeypatch.setattr("fusepipe.engines.backends.torch.captured.TorchGraph", Seen)
    with on_cpu(Graphs(), "fp32") as fuser:
        fuser.fuse(*PAIRS[0])
    assert seen and not any(seen) and torch.backends.cudnn.allow_tf32, "and other programs keep their setting"


@pytest.mark.gpu
def test_the_last_gpu_of_the_machine_captures_as_well() -> None:
    """Streams and captures are of the current GPU, which is the first one unless it is changed."""
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")
    device = f"cuda:{torch.cuda.device_count() - 1}"
    with (
        TorchCudaFuser("stream", read_onnx("stream"), "fp32", device=device) as fuser,
        load_model("stream", "openvino", "fp32") as reference,
    ):
        expected = reference.fuse(*PAIRS[0]).astype(int)
        for _ in range(2):
            assert int(abs(fuser.fuse(*PAIRS[0]) - expected).max()) <= 1
