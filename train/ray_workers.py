"""Training processes on a Ray cluster: the code that ``torchrun`` starts, in the process group of Ray Train.

The folders of a training must be visible to all nodes. A worker that dies is replaced, and the training continues from
its checkpoint, which is fusepipe's own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusepipe.core.errors import EngineError, FusepipeError
from fusepipe.train.checkpoint import CHECKPOINT

TIMEOUT_S = 600  # of a collective call, as with torchrun
REPLACEMENTS = 3  # of workers that die
Train = Callable[[bool], None]  # gets whether to resume


@dataclass(frozen=True, slots=True)
class RayWorkers:
    """``count`` processes on the cluster at ``address`` (``None``: one on this machine); ``gpus``: each has a GPU."""

    count: int
    address: str | None = None
    gpus: bool = False


def train_on_ray(train: Train, workers: RayWorkers, out: Path, *, resume: bool) -> None:
    """Calls ``train(resume)`` in each worker; after a worker has died again, then resuming from what ``out`` holds.

    Raises :class:`EngineError` where Ray is missing or its cluster does not answer, and what ended the training.
    """
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise EngineError(f"Ray Train cannot be imported: pip install 'fusepipe[train,ray-train]' ({error})") from error
    # a checkpoint that is there now is resumed only if asked for; one that comes is this run's
    fresh, folder = not _checkpoints(out), Path.cwd()

    def in_worker() -> None:
        os.chdir(folder)
        train(resume or (fresh and bool(_checkpoints(out))))

    try:
        if workers.address is None:
            # without an address Ray would join any cluster of this machine, and wait for cores that others use
            ray.init(address="local", num_cpus=max(workers.count, os.cpu_count() or 1))
        else:
            ray.init(address=workers.address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(f"no Ray cluster at {workers.address or 'this machine'}: {error}") from error
    try:
        require_room(workers, ray.cluster_resources())
        with tempfile.TemporaryDirectory(prefix="fusepipe-ray-") as records:  # Ray's own, of no further use
            TorchTrainer(
                in_worker,
                torch_config=TorchConfig(timeout_s=TIMEOUT_S),
                scaling_config=ScalingConfig(num_workers=workers.count, use_gpu=workers.gpus),
                run_config=RunConfig(storage_path=records, failure_config=FailureConfig(max_failures=REPLACEMENTS)),
            ).fit()
    except TrainingFailedError as error:
        raise _cause(error) from error
    finally:
        ray.shutdown()


def require_room(workers: RayWorkers, resources: Mapping[str, float]) -> None:
    """Raises :class:`EngineError` for more workers than the cluster ever has room for: Ray would wait for ever."""
    kind = "GPU" if workers.gpus else "CPU"
    if (room := int(resources.get(kind, 0))) < workers.count:
        raise EngineError(f"--ray-workers {workers.count}: the Ray cluster has {room} {kind}s; give at most as many")


def _checkpoints(out: Path) -> list[Path]:
    return list(out.glob(f"**/{CHECKPOINT}"))


def _cause(error: BaseException) -> FusepipeError:
    """What ended the training: the error of a worker if it is one of fusepipe's."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, FusepipeError):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    return EngineError(f"training on Ray failed: {error}")
