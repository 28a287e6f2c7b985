"""Names to lazy import strings: what models, backends, sources and sinks there are.

A newcomer adds a line here; nothing is imported until the name is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from fusepipe.errors import UsageError

# model name -> "module:factory"; a factory takes (backend, precision, engine) and returns a Fuser.
MODELS: Mapping[str, str] = {
    "stream": "fusepipe.engines.load:load_model",
    "mean": "fusepipe.evaluation.baselines:load_baseline",
    "max": "fusepipe.evaluation.baselines:load_baseline",
    "pyramid": "fusepipe.evaluation.baselines:load_baseline",
    "cbf": "fusepipe.evaluation.baselines:load_baseline",
    "gtf": "fusepipe.evaluation.baselines:load_baseline",
    "jsrsd": "fusepipe.evaluation.baselines:load_baseline",
    "densefuse": "fusepipe.engines.load:load_model",
    "densefuse-l1": "fusepipe.engines.load:load_model",
    "fusiongan": "fusepipe.engines.load:load_model",
    "ddcgan": "fusepipe.engines.load:load_model",
}

# Which of them are neural networks: they have a backend and a precision.
NETWORKS = frozenset({"stream", "densefuse", "densefuse-l1", "fusiongan", "ddcgan"})

BACKENDS: Mapping[str, str] = {
    "openvino": "fusepipe.engines.openvino_backend:OpenVinoFuser",
}

# kind of source -> a class that meets fusepipe.pipeline.sources.base.Source
SOURCES: Mapping[str, str] = {
    "images": "fusepipe.pipeline.sources.image_folder:ImageFolderSource",
    "video": "fusepipe.pipeline.sources.video_file:VideoFileSource",
    "synthetic": "fusepipe.pipeline.sources.synthetic:SyntheticSource",
}

# key of a sink in rigs.yaml -> a class that meets fusepipe.pipeline.sinks.base.Sink
SINKS: Mapping[str, str] = {
    "file": "fusepipe.pipeline.sinks.video:VideoSink",
    "images": "fusepipe.pipeline.sinks.images:ImagesSink",
    "rtsp": "fusepipe.pipeline.sinks.rtsp:RtspServerSink",
    "rtsp+push": "fusepipe.pipeline.sinks.rtsp_push:RtspPushSink",
    "preview": "fusepipe.pipeline.sinks.preview:PreviewSink",
}

PRECISIONS = ("auto", "fp32", "bf16")


def nearest(name: str, known: Mapping[str, Any] | tuple[str, ...] | list[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known name, else the list of them all."""
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def resolve(path: str) -> Callable[..., Any]:
    """``package.module:attribute`` to the object."""
    module, _, attribute = path.partition(":")
    target: Callable[..., Any] = getattr(import_module(module), attribute)
    return target


def model_factory(model: str) -> Callable[..., Any]:
    """The factory of a model by name; raises :class:`UsageError` that names the nearest."""
    if model not in MODELS:
        raise UsageError(f"there is no model {model!r}: {nearest(model, MODELS)}")
    return resolve(MODELS[model])
