"""Makes fusers: by name for programs, from a rig's ``fusion`` for a run."""

from __future__ import annotations

from fusepipe.config.schema import FusionConfig
from fusepipe.core.fuser import Fuser
from fusepipe.core.models import model_factory


def load_fuser(
    model: str = "stream",
    backend: str = "auto",
    precision: str = "auto",
    engine: str | None = None,
    device: str | None = None,
) -> Fuser:
    """A fuser by name: ``load_fuser("stream").fuse(ir, vis)`` takes and returns HxW uint8 luma.

    ``backend`` and ``precision`` ``auto`` select the best available here; ``fuser.info`` says which and why.
    ``device`` is the index or UUID of an NVIDIA GPU, the first one if ``None``.
    Raises :class:`UsageError` for unknown names, :class:`EngineError` where it cannot run here.
    """
    return model_factory(model)(model, backend, precision, engine, device)


def lease_fuser(fusion: FusionConfig) -> Fuser:
    """The fuser of a rig; on a GPU, rigs with the same ``fusion`` share one engine, which batches their pairs."""
    from fusepipe.engines.sharing import ENGINES

    named = fusion.model, fusion.backend, fusion.precision, fusion.engine, fusion.device
    return ENGINES.lease(named, lambda: load_fuser(*named))
