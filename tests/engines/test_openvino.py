"""The OpenVINO backend beyond the shared contract: names, precision, sizes, the compile cache, scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import FusionBatch
from fusepipe.core.machine import Processor, usable_cores
from fusepipe.core.models import NETWORKS
from fusepipe.engines import choose
from fusepipe.engines.backends.openvino import fuser as openvino_fuser
from fusepipe.engines.backends.openvino import network as openvino_network
from fusepipe.engines.backends.openvino.fuser import MAX_BATCH, STATIC_SIZES, OpenVinoFuser
from fusepipe.engines.backends.openvino.network import shared_core
from fusepipe.engines.builder.agreement import measure_agreement, require_agreement
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.load import load_model, read_int8, read_onnx
from fusepipe.engines.verification import Verification
from fusepipe.evaluation.metrics.fidelity import vif_sum
from fusepipe.evaluation.metrics.gradients import qabf
from fusepipe.evaluation.metrics.information import mutual_information
from fusepipe.evaluation.metrics.similarity import scd, ssim
from fusepipe.workflows.build_engine.image_pairs import street_pairs


def noise(height: int, width: int, seed: int = 0) -> tuple[Luma8, Luma8]:
    rng = np.random.default_rng(seed)
    images = [cv2.GaussianBlur(rng.integers(0, 256, (height, width), np.uint8), (0, 0), 1.5) for _ in range(2)]
    return np.asarray(images[0], np.uint8), np.asarray(images[1], np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class FakeCore:
    """The process's own core, on a CPU with other abilities than this one's.

    It delegates: a core of its own would unload OpenVINO's CPU plugin with the last fuser of the test, which may be
    garbage collected in any thread (see :func:`shared_core`); Ctrl-C in a later test then ended the worker.
    """

    def __init__(self, *capabilities: str) -> None:
        self.capabilities = capabilities

    def get_property(self, device: str, name: str) -> object:
        if name == "OPTIMIZATION_CAPABILITIES":
            return list(self.capabilities)
        return shared_core().get_property(device, name)

    def __getattr__(self, name: str) -> object:
        return getattr(shared_core(), name)


def on_a_cpu_with(monkeypatch: pytest.MonkeyPatch, *capabilities: str) -> None:
    for module in (openvino_network, openvino_fuser):
        monkeypatch.setattr(module, "shared_core", lambda: FakeCore(*capabilities))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("strem",), "'stream'"),
        (("stream", "openvine"), "'openvino'"),
        (("stream", "auto", "fp31"), "'fp32'"),
    ],
)
def test_wrong_names_suggest_the_nearest_name(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(*arguments)


def test_auto_says_what_it_took_and_why() -> None:
    with load_model("stream") as fuser:
        assert fuser.info.backend == "openvino"
        assert "auto: " in fuser.info.reason and fuser.info.precision in fuser.info.reason


def test_bf16_is_refused_where_the_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_cpu_with(monkeypatch, "FP32")
    monkeypatch.setattr(choose, "fast_int8", lambda: "")
    with load_model("stream") as fuser:
        assert fuser.info.precision == "fp32"
    with pytest.raises(EngineError, match="--precision fp32") as caught:
        load_model("stream", precision="bf16")
    assert caught.value.exit_code == 4


def test_int8_is_taken_where_the_cpu_is_fast_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "fast_int8", lambda: "VNNI")
    with load_model("stream") as fuser:
        assert fuser.info.precision == "int8" and "VNNI" in fuser.info.reason
        assert fuser.fuse(*noise(31, 45)).shape == (31, 45)
    # a network that ships without an int8 graph is not quantised behind anyone's back
    assert load_model("densefuse").info.precision != "int8"


def test_the_features_that_make_int8_fast() -> None:
    assert choose.fast_int8(Processor("x", {"VNNI": True, "AMX": False})) == "VNNI"
    assert choose.fast_int8(Processor("x", {"AVX2": True, "VNNI": False})) == ""
    assert choose.fast_int8(Processor("unknown", {})) == ""


def test_int8_runs_where_it_is_asked_for_and_stays_close() -> None:
    pair = noise(64, 96)
    with load_model("stream", "openvino", "int8") as fuser, load_model("stream", "openvino", "fp32") as exact:
        assert fuser.info.precision == "int8"
        difference = np.abs(fuser.fuse(*pair).astype(int) - exact.fuse(*pair))
    assert 0 < difference.max() <= 24 and difference.mean() < 1.0


@pytest.mark.parametrize("model", ["stream", "mfe"])
def test_int8_layers_hand_on_bytes(model: str) -> None:
    """A layer whose bias another layer shares would give fp32, to be quantised by a step of its own."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")
    network = read_int8(model)
    assert network is not None
    nodes = onnx.load_model_from_string(network).graph.node
    reads = {name: [node for node in nodes if name in node.input] for made in nodes for name in made.output}
    after = [reads[node.output[0]] for node in nodes if node.op_type == "Conv"]
    after = [reads[first[0].output[0]] if first[0].op_type == "Relu" else first for first in after]
    bytes_out = [{node.op_type for node in readers} for readers in after].count({"QuantizeLinear"})
    assert bytes_out > 0
    with OpenVinoFuser(model, network, "int8") as fuser:
        compiled = fuser.compiled_model((1, 32, 48))
    given = [
        str(layer.get_rt_info()["outputPrecisions"].astype(str))
        for layer in compiled.get_runtime_model().get_ordered_ops()
        if str(layer.get_rt_info()["layerType"].astype(str)) == "Convolution"
    ]
    assert given.count("u8") >= bytes_out, given


@pytest.mark.parametrize("model", [name for name in sorted(NETWORKS) if read_int8(name) is not None])
def test_each_int8_network_that_ships_was_made_of_the_fp32_one_that_ships(model: str) -> None:
    """Fails for retrained weights without a new run of ``scripts/make_int8_weights``."""
    whole = street_pairs(light="day", frames=1, seed=31) + street_pairs(light="night", frames=1, seed=32)
    pairs = [(infrared[60:180, 80:240], visible[60:180, 80:240]) for infrared, visible in whole]
    with load_model(model, "openvino", "int8") as fuser, load_model(model, "openvino", "fp32") as exact:
        expected, given = ([runner.fuse(*pair) for pair in pairs] for runner in (exact, fuser))
    agreement = measure_agreement("the fp32 ONNX", pairs, expected, given)
    require_agreement(Verification("int8", True, (agreement,)), "int8")  # raises where they do not agree
    assert agreement.pairs == len(pairs) and agreement.max_abs > 0, "both ran, and one of them in int8"


def test_bf16_is_taken_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_cpu_with(monkeypatch, "FP32", "BF16")
    monkeypatch.setattr(choose, "fast_int8", lambda: "")
    assert load_model("stream").info.precision == "bf16"
    assert load_model("stream", precision="fp32").info.precision == "fp32"


def test_a_file_that_is_not_a_network_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="cannot read the network"):
        OpenVinoFuser("stream", b"not a network")


def test_missing_weights_are_an_engine_error() -> None:
    with pytest.raises(EngineError, match="reinstall"):
        read_onnx("absent")


class CountingCache(CompileCache):
    """Records the key of each compiled graph, which contains the size it is for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.keys: list[str] = []

    def load(self, key: str) -> bytes | None:
        self.keys.append(key)
        return None

    @property
    def dynamic(self) -> list[bool]:
        """Whether each graph has dynamic shapes."""
        return ["|None|" in key for key in self.keys]


def test_more_sizes_than_graphs_compile_a_handful_of_times(tmp_path: Path) -> None:
    cache = CountingCache(tmp_path)
    sizes = [(20 + 3 * n, 31 + 5 * n) for n in range(12)]
    with OpenVinoFuser("stream", read_onnx("stream"), "fp32", cache=cache) as fuser:
        many = [fuser.fuse(*noise(*size)) for size in sizes]
        for size in sizes:
            fuser.prepare(*size)
    assert cache.dynamic == [False] * STATIC_SIZES + [True]
    # the dynamic graph computes the same bytes as a static one
    with load_model("stream", "openvino", "fp32") as fuser:
        assert np.array_equal(fuser.fuse(*noise(*sizes[-1])), many[-1])


def test_in_bf16_a_result_does_not_depend_on_earlier_sizes(tmp_path: Path) -> None:
    """In bf16 a dynamic graph rounds differently from a static one (seen on a CPU with AMX)."""
    cache = CountingCache(tmp_path)
    try:
        fuser = OpenVinoFuser("densefuse-l1", read_onnx("densefuse-l1"), "bf16", cache=cache)
        fuser.fuse(*noise(20, 30))
    except EngineError as error:
        pytest.skip(f"no bf16 here: {error}")
    with fuser, load_model("densefuse-l1", "openvino", "bf16") as other:
        sizes = [(20 + 3 * n, 31 + 5 * n) for n in range(STATIC_SIZES + 2)]
        many = [fuser.submit(FusionBatch(*([image] for image in noise(*size)))) for size in sizes]
        assert np.array_equal(other.fuse(*noise(*sizes[-1])), many[-1].result(30)[0])
        assert np.array_equal(fuser.fuse(*noise(*sizes[0])), many[0].result(30)[0]), "and again, after recompiling"
        # the first fuse, all sizes, and the first size again as its graph was dropped
        assert cache.dynamic == [False] * (STATIC_SIZES + 4)


def test_odd_sizes_are_padded_with_their_edge() -> None:
    infrared, visible = noise(31, 45)
    even = [np.pad(image, ((0, 1), (0, 1)), mode="edge") for image in (infrared, visible)]
    with load_model("stream") as fuser:
        assert np.array_equal(fuser.fuse(infrared, visible), fuser.fuse(even[0], even[1])[:31, :45])


def test_a_very_wide_image() -> None:
    with load_model("stream") as fuser:
        assert fuser.fuse(*noise(6, 8000)).shape == (6, 8000)


def test_a_batch_over_the_limit_is_refused() -> None:
    infrared, visible = noise(8, 8)
    with load_model("stream") as fuser:
        with pytest.raises(UsageError, match="MAX_BATCH"):
            fuser.submit(FusionBatch([infrared] * (MAX_BATCH + 1), [visible] * (MAX_BATCH + 1)))
        with pytest.raises(UsageError, match="prepare"):
            fuser.prepare(0, 8)


def test_no_answer_in_time_is_an_error_and_the_result_comes_later() -> None:
    pair = noise(240, 320)
    with load_model("mfe") as fuser:  # large enough that it is never done before it is asked
        expected = fuser.fuse(*pair)
        ticket = fuser.submit(FusionBatch((pair[0],), (pair[1],)))
        with pytest.raises(EngineError, match="did not answer"):
            ticket.result(0.0)
        assert np.array_equal(ticket.result()[0], expected)


def test_the_second_start_takes_the_compiled_network_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, onnx = noise(32, 48), read_onnx("stream")
    with OpenVinoFuser("stream", onnx, "fp32", cache=CompileCache(tmp_path)) as fuser:
        expected = fuser.fuse(*pair)
    stored: list[str] = []
    cache = CompileCache(tmp_path)
    monkeypatch.setattr(cache, "store", lambda key, blob: stored.append(key))
    with OpenVinoFuser("stream", onnx, "fp32", cache=cache) as fuser:
        assert np.array_equal(fuser.fuse(*pair), expected)
    assert not stored
    # a file that is whole but of another program is compiled over
    for path in tmp_path.glob("*.blob"):
        path.unlink()
    monkeypatch.undo()
    monkeypatch.setattr(CompileCache, "load", lambda self, key: b"something else")
    with OpenVinoFuser("stream", onnx, "fp32", cache=CompileCache(tmp_path)) as fuser:
        assert np.array_equal(fuser.fuse(*pair), expected)


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with load_model("stream") as fuser:
        assert fuser.fuse(*noise(16, 16)).shape == (16, 16)


def test_two_processes_share_a_new_cache() -> None:
    code = (
        "import numpy, hashlib; from fusepipe.engines.load import load_model\n"
        "a = numpy.arange(64 * 64, dtype=numpy.uint32).astype(numpy.uint8).reshape(64, 64)\n"
        "print(hashlib.sha256(load_model('stream').fuse(a, a.T).tobytes()).hexdigest())"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=100)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert printed[0] == printed[1] and len(printed[0].strip()) == 64


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shipped_weights_reach_their_scores_on_tno(data_dir: Path) -> None:
    """The 42 TNO pairs, which no training saw; the floor of each metric in one model."""
    pairs = sorted((data_dir / "tno" / "pairs" / "ir").iterdir())
    assert len(pairs) == 42
    scores: dict[str, list[float]] = {"MI": [], "VIF": [], "Qabf": [], "SCD": [], "SSIM": []}
    with load_model("stream", precision="fp32") as fuser:
        for path in pairs:
            infrared = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)
            other = data_dir / "tno" / "pairs" / "vis" / path.name
            visible = np.asarray(cv2.imread(str(other), cv2.IMREAD_GRAYSCALE), np.uint8)
            fused = fuser.fuse(infrared, visible)
            scores["MI"].append(mutual_information(infrared, visible, fused))
            scores["VIF"].append(vif_sum(infrared, visible, fused))
            scores["Qabf"].append(qabf(infrared, visible, fused, variant="common"))
            scores["SCD"].append(scd(infrared, visible, fused))
            scores["SSIM"].append(ssim(infrared, visible, fused, variant="common"))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    floors = {"MI": 2.44, "VIF": 0.755, "Qabf": 0.54, "SCD": 1.825, "SSIM": 0.72}
    assert not {name: value for name, value in means.items() if value < floors[name]}, means


_RELEASED_ELSEWHERE = """
import gc, signal, threading
import numpy as np
from fusepipe.engines.load import load_model

fusers = [load_model("stream", precision="fp32")]
image = np.zeros((32, 32), np.uint8)
fusers[0].fuse(image, image)

def release():
    fusers.pop().close()
    gc.collect()

thread = threading.Thread(target=release)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda signum, frame: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_after_a_fuser_was_released_in_another_thread() -> None:
    ran = subprocess.run([sys.executable, "-c", _RELEASED_ELSEWHERE], capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "handled\n"), ran.stderr


def test_a_small_coarse_part_runs_two_requests_beside_each_other_on_one_thread_each(tmp_path: Path) -> None:
    if usable_cores() < 2:
        pytest.skip("this machine has one core")
    with OpenVinoFuser("stream", read_onnx("stream"), "fp32", cache=CompileCache(tmp_path)) as fuser:
        small, large = fuser.compiled_model((1, 96, 128)), fuser.compiled_model((1, 1080, 2080))
        assert (small.get_property("NUM_STREAMS"), small.get_property("INFERENCE_NUM_THREADS")) == (2, 2)
        assert large.get_property("NUM_STREAMS") == 1
