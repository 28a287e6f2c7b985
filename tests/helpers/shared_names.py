"""Names that two packages use for one concept, each with the reason: the exceptions of ``tests/test_layout.py``."""

from __future__ import annotations

# Public functions and classes that two packages define under one name.
SHARED_NAMES = {
    "Slot": "a request and its buffers, of the OpenVINO and of the TensorRT runtime",
}

# Names of modules and packages that are used twice. Those of commands are: a command = its workflow.
SHARED_MODULES = {
    "api": "an interface: of fusepipe for programs, of CUDA for the runtime",
    "backends": "the backends of engines: package, checks of the doctor",
    "base": "the protocol of a package: of sources, of sinks",
    "baselines": "learned and classical methods to compare with: their code, configuration and training",
    "build": "an engine is built: by the command, and by the builder that it calls",
    "console": "the terminal: of commands, and of a training",
    "data": "image data: the commands for it, and what a training reads",
    "ddcgan": "the network of that name: its layers and its losses; so the next five",
    "densefuse": "a network",
    "fusiongan": "a network",
    "mfe": "a network",
    "pyramid": "a network, and its finer levels on a CPU",
    "student": "a network",
    "detector": "a detector: of objects, of an overload",
    "detection": "object detection: its score, its loss, the task that trains with it",
    "fake": "a test double: of CUDA, of a TensorRT plan",
    "files": "files: atomic writes, sources that read them, sinks that write them",
    "fuser": "a `Fuser`: the protocol, and the one of a backend",
    "fusion": "fusion of two images: the stage, the loss, the task",
    "library": "the loaded library of a backend",
    "live": "on the network: sources, sinks",
    "load": "opens a fuser by name: a network, a classical rule",
    "options": "parsed options: of commands, of a synthetic source",
    "packages": "installed Python packages: of all, of CUDA",
    "page": "the HTML page of a report, from its template",
    "pairing": "pairing of frames: the package, the factory of its pairers",
    "registration": "registration: estimated from a scene, applied by a stage, made by a factory",
    "report": "a report: of a run, of an evaluation",
    "rtsp": "RTSP: servers, sink",
    "server": "a server: RTSP, web",
    "session": "a session: of an RTSP client, of a training",
    "sinks": "sinks: configuration, factory, package",
    "slots": "the requests of a backend, with their buffers",
    "sources": "sources: factory, package",
    "stages": "the stages of the pipeline: package, cost",
}
