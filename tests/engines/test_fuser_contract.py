"""The contract of all fusers of the registry; new models are included by their line in the registry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.engine_requests import IMAGES, build_request, padding_multiple
from helpers.gpu_here import require_gpu

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import Fuser, FuserInfo, FusionBatch
from fusepipe.core.models import MODELS, NETWORKS, model_factory
from fusepipe.engines.backends.cuda.fake import FakeCuda
from fusepipe.engines.backends.tensorrt.fake import FakePlan
from fusepipe.engines.backends.tensorrt.runtime import TensorRtFuser
from fusepipe.engines.builder.build import build
from fusepipe.engines.load import load_model, read_onnx
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.sharing import SharedEngines

Scene = Callable[..., tuple[Luma8, Luma8]]


def make_scene(height: int, width: int, seed: int = 0) -> tuple[Luma8, Luma8]:
    """A smooth infrared image with hot spots and a textured visible one: HxW uint8 each."""
    rng = np.random.default_rng((seed, height, width))
    y, x = np.mgrid[0:height, 0:width] / 16.0
    phase = rng.uniform(0, 6, size=2)
    infrared = 70 + 40 * np.sin(x + phase[0]) + 90 * np.exp(-((x - 2) ** 2) - (y - 2) ** 2)
    visible = 110 + 50 * np.cos(y * 1.3 + phase[1]) + rng.normal(0, 12, size=(height, width))
    return infrared.clip(0, 255).astype(np.uint8), visible.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled networks of the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


# The same network on other backends: name -> (backend, precision)
VARIANTS = {"stream in int8": ("openvino", "int8"), "stream in PyTorch": ("torch", "fp32")}
ON_FAKE_CUDA, SHARED = "stream on fake CUDA", "stream on fake CUDA, shared by rigs"
ON_GPU = "stream in an engine for this GPU"
EVERY = [*sorted(MODELS), *VARIANTS, ON_FAKE_CUDA, SHARED, pytest.param(ON_GPU, marks=pytest.mark.gpu)]


def make(model: str) -> Fuser:
    if model == ON_FAKE_CUDA:
        return on_fake_cuda()
    if model == ON_GPU:
        return on_this_gpu()
    if model == SHARED:
        return SharedEngines().lease("a rig's fusion", on_fake_cuda)
    backend, precision = VARIANTS.get(model, ("auto", "auto"))
    if backend == "torch":
        pytest.importorskip("torch", reason="torch is not installed: pip install 'fusepipe[train]'")
    name = network(model)
    fuser: Fuser = model_factory(name)(name, backend, precision, None)
    return fuser


def network(model: str) -> str:
    """The registry's name."""
    return model.split(" ")[0]


def on_fake_cuda() -> Fuser:
    """TensorRT's runtime on fake CUDA, which raises where a GPU would be misused."""
    cuda = FakeCuda()
    info = FuserInfo("stream", "tensorrt", "fp32", reason="a test", max_in_flight=2, max_batch=3)
    multiple = padding_multiple()
    shapes = Shapes((multiple, multiple), (64, 48), (2048, 2048), batch=3)
    return TensorRtFuser(info, shapes, multiple, lambda: FakePlan(cuda, read_onnx("stream")), lambda: cuda)


def on_this_gpu() -> Fuser:
    """An engine in fp16, built once; skips without a GPU."""
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fusepipe[build]'")
    backend, gpu = require_gpu()
    multiple = padding_multiple()
    shapes = Shapes((multiple, multiple), (64, 48), (2048, 2048), batch=3)
    built = build(build_request(backend, "fp16", shapes=shapes, gpu=gpu), IMAGES)
    return load_model("stream", engine=str(built.plan))


# Iterative optimisations and large generators meet the contract on two small sizes only.
SLOW = {"jsrsd", "gtf", "cbf", "fusiongan", "ddcgan"}
SIZES = [(48, 64), (1, 1), (1, 9), (9, 1), (2, 3), (30, 4), (37, 53), (16, 1200)]
SLOW_SIZES = [(1, 9), (11, 18)]
# Grey levels by which identical images may change: the mean and the largest difference. JSRSD describes each
# 8x8 patch by 16 atoms, which leaves out what noise has beyond them. The generators of the adversarial networks
# are asked for the infrared's levels and the visible's edges, never for an image as it is. Fine-tuned `mfe` stretches
# contrast, for which correlation of differences asks.
CHANGES = {"jsrsd": (6.0, 64.0), "fusiongan": (16.0, 80.0), "ddcgan": (16.0, 80.0), "mfe": (14.0, 48.0)}
# Grey levels by which flat images may change. Photographs have hardly a black area from which the auto-encoder
# could learn it; tanh never gives quite black or white.
FLATNESS = {"densefuse": 4, "densefuse-l1": 4, "fusiongan": 40, "ddcgan": 40, "mfe": 10}


@pytest.fixture(
    scope="module",
    params=EVERY,
)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(model: str) -> Scene:
    """:func:`make_scene`, for slow models at most of the larger of their sizes."""
    if model not in SLOW:
        return make_scene
    return lambda height, width, seed=0: make_scene(min(height, SLOW_SIZES[1][0]), min(width, SLOW_SIZES[1][1]), seed)


@pytest.fixture(scope="module")
def fuser(model: str, _own_cache: None) -> Iterator[Fuser]:
    with make(model) as made:
        yield made


def test_info_names_what_runs(fuser: Fuser, model: str) -> None:
    assert fuser.info.model == network(model)
    assert fuser.info.max_in_flight >= 1 and fuser.info.max_batch >= 1
    if network(model) in NETWORKS:
        assert fuser.info.reason and fuser.info.backend != "auto" and fuser.info.precision != "auto"


def test_any_size_gives_uint8_of_that_size(fuser: Fuser, model: str) -> None:
    for size in SLOW_SIZES if model in SLOW else SIZES:
        fused = fuser.fuse(*make_scene(*size))
        assert fused.shape == size and fused.dtype == np.uint8, size


def test_prepare_then_fuse_gives_what_fuse_alone_gives(fuser: Fuser, model: str, scene: Scene) -> None:
    pair = scene(34, 46)
    height, width = pair[1].shape
    expected = fuser.fuse(*pair)
    with make(model) as prepared:
        prepared.prepare(height, width)
        assert np.array_equal(prepared.fuse(*pair), expected)


def test_strided_images_give_what_contiguous_ones_give(fuser: Fuser, scene: Scene) -> None:
    infrared, visible = scene(40, 56)
    expected = fuser.fuse(infrared, visible)
    height, width = infrared.shape
    wide = np.full((height, width + 24), 99, np.uint8)
    wide[:, 8 : 8 + width] = infrared
    upside_down = np.ascontiguousarray(visible[::-1])
    assert np.array_equal(fuser.fuse(wide[:, 8 : 8 + width], upside_down[::-1]), expected)
    columns = np.asfortranarray(visible)
    assert np.array_equal(fuser.fuse(infrared, columns), expected)


def test_read_only_images_are_taken(fuser: Fuser, scene: Scene) -> None:
    infrared, visible = scene(24, 32)
    expected = fuser.fuse(infrared, visible)
    infrared.flags.writeable = visible.flags.writeable = False
    assert np.array_equal(fuser.fuse(infrared, visible), expected)


def test_a_batch_gives_what_single_pairs_give_in_order(fuser: Fuser, scene: Scene) -> None:
    pairs = [scene(35, 50, seed) for seed in range(3)]
    batch = FusionBatch([p[0] for p in pairs], [p[1] for p in pairs], ("a", "b", "c"))
    fused = fuser.submit(batch).result()
    assert len(fused) == 3
    for image, pair in zip(fused, pairs, strict=True):
        assert np.array_equal(image, fuser.fuse(*pair))


def test_two_tickets_in_any_order(fuser: Fuser, scene: Scene) -> None:
    first, second = scene(40, 60, 1), scene(40, 60, 2)
    expected = fuser.fuse(*first), fuser.fuse(*second)
    tickets = [fuser.submit(FusionBatch((p[0],), (p[1],))) for p in (first, second)]
    later, earlier = tickets[1].result()[0], tickets[0].result()[0]
    assert np.array_equal(earlier, expected[0]) and np.array_equal(later, expected[1])


def test_many_tickets_keep_their_own_results(fuser: Fuser, model: str, scene: Scene) -> None:
    pairs = [scene(20 + 2 * (n % 3), 28, n) for n in range(3 if model in SLOW else 9)]
    expected = [fuser.fuse(*p) for p in pairs]
    tickets = [fuser.submit(FusionBatch((p[0],), (p[1],))) for p in pairs]
    for ticket, image in zip(tickets, expected, strict=True):
        assert np.array_equal(ticket.result()[0], image)


def test_results_belong_to_the_caller(fuser: Fuser, scene: Scene) -> None:
    pair, other = scene(32, 32, 3), scene(32, 32, 4)
    ticket = fuser.submit(FusionBatch((pair[0],), (pair[1],)))
    image = ticket.result()[0]
    kept = image.copy()
    fuser.fuse(*other)
    assert np.array_equal(image, kept)
    assert ticket.result()[0] is image
    image[:] = 0
    assert np.array_equal(fuser.fuse(*pair), kept)


def test_the_same_input_gives_the_same_bytes(fuser: Fuser, model: str, scene: Scene) -> None:
    pair = scene(61, 83)
    assert fuser.fuse(*pair).tobytes() == fuser.fuse(*pair).tobytes()
    with make(model) as other:
        assert other.fuse(*pair).tobytes() == fuser.fuse(*pair).tobytes()


def test_inputs_are_not_modified(fuser: Fuser, scene: Scene) -> None:
    infrared, visible = scene(33, 47)
    before = infrared.copy(), visible.copy()
    fuser.fuse(infrared, visible)
    assert np.array_equal(infrared, before[0]) and np.array_equal(visible, before[1])


def test_identical_images_come_back_nearly_unchanged(fuser: Fuser, scene: Scene) -> None:
    _, visible = scene(64, 96)
    difference = np.abs(fuser.fuse(visible, visible).astype(int) - visible)
    # a network may bend the tones a little; a rule may not
    mean, largest = CHANGES.get(fuser.info.model, (4, 24) if fuser.info.model in NETWORKS else (0.5, 2))
    assert difference.mean() <= mean and difference.max() <= largest


@pytest.mark.parametrize(("level", "low", "high"), [(255, 253, 255), (0, 0, 2), (128, 116, 140)])
def test_flat_images_stay_flat(fuser: Fuser, level: int, low: int, high: int) -> None:
    flat = np.full((45, 70), level, np.uint8)
    fused = fuser.fuse(flat, flat)
    extra = FLATNESS.get(fuser.info.model, 0)
    assert low - extra <= fused.min() and fused.max() <= high + extra


def test_images_that_do_not_fit_are_refused(fuser: Fuser, scene: Scene) -> None:
    infrared, visible = scene(16, 16)
    with pytest.raises(UsageError, match="uint8"):
        fuser.fuse(infrared.astype(np.float32), visible)
    with pytest.raises(UsageError, match="size"):
        fuser.fuse(infrared[:8], visible)
    with pytest.raises(UsageError):
        fuser.fuse(infrared[:0], visible[:0])
    assert fuser.fuse(infrared, visible).shape == visible.shape


def test_a_result_may_be_fetched_by_another_thread(fuser: Fuser, model: str, scene: Scene) -> None:
    pairs = [scene(48, 48, n) for n in range(2 if model in SLOW else 4)]
    expected = [fuser.fuse(*p) for p in pairs]
    fetched: list[Luma8] = []
    for pair in pairs:
        ticket = fuser.submit(FusionBatch((pair[0],), (pair[1],)))
        thread = threading.Thread(target=lambda t=ticket: fetched.append(t.result()[0]), name="collector")
        thread.start()
        thread.join(30)
    assert all(np.array_equal(a, b) for a, b in zip(fetched, expected, strict=True))


THREADS = 4


def in_threads(work: Callable[[int], None]) -> None:
    """Runs ``work(index)`` in four threads that start together; raises the first failure."""
    failures: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def run(index: int) -> None:
        try:
            start.wait(30)
            work(index)
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,), name=f"caller-{index}") for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


@pytest.mark.parametrize("call", ["fuse", "submit"])
def test_every_thread_gets_the_results_of_its_own_calls(fuser: Fuser, model: str, scene: Scene, call: str) -> None:
    pairs = [scene(20 + 4 * (n % 2), 28, n) for n in range(THREADS)]
    expected = [fuser.fuse(*pair) for pair in pairs]

    def work(index: int) -> None:
        infrared, visible = pairs[index]
        for _ in range(1 if model in SLOW else 20):
            if call == "fuse":
                fused = fuser.fuse(infrared, visible)
            else:
                fused = fuser.submit(FusionBatch((infrared,), (visible,))).result()[0]
            assert np.array_equal(fused, expected[index])

    in_threads(work)


def test_closing_while_other_threads_fuse_gives_results_or_a_clear_error(model: str, scene: Scene) -> None:
    pair = scene(24, 32)
    fuser = make(model)
    expected = fuser.fuse(*pair)
    refusals: list[str] = []

    def work(index: int) -> None:
        for count in range(2 if model in SLOW else 20):
            if index == 0 and count == 1:
                fuser.close()
            try:
                fused = fuser.fuse(*pair)
            except EngineError as error:
                refusals.append(str(error))
                return
            assert np.array_equal(fused, expected)

    in_threads(work)
    fuser.close()
    assert refusals and all("closed" in text or "stopped" in text for text in refusals)


def test_close_waits_keeps_results_and_may_come_twice(model: str, scene: Scene) -> None:
    infrared, visible = scene(48, 64)
    fuser = make(model)
    ticket = fuser.submit(FusionBatch((infrared,), (visible,)))
    fuser.close()
    fuser.close()
    assert ticket.result()[0].shape == visible.shape
    with pytest.raises(EngineError, match="closed"):
        fuser.fuse(infrared, visible)
    with pytest.raises(EngineError, match="closed"):
        fuser.submit(FusionBatch((infrared,), (visible,)))


def test_leaving_the_context_closes(model: str, tmp_path: Path, scene: Scene) -> None:
    with make(model) as fuser:
        pass
    with pytest.raises(EngineError):
        fuser.fuse(*scene(8, 8))
