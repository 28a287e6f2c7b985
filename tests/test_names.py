"""Names: one meaning each. What two packages call the same is the same concept, and is listed with its reason."""

from __future__ import annotations

import ast
from collections import defaultdict

from helpers.source_tree import MODULES, parsed

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
    "detection": "object detection: its score, its loss, the task that trains with it",
    "fake": "a test double: of CUDA, of a TensorRT plan",
    "files": "files: atomic writes, sources that read them, sinks that write them",
    "fuser": "a `Fuser`: the protocol, and the one of a backend",
    "fusion": "fusion of two images: the stage, the loss, the task",
    "library": "the loaded library of a backend",
    "live": "on the network: sources, sinks",
    "load": "opens a fuser by name: a network, a classical rule",
    "options": "parsed options: of commands, of a synthetic source",
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


def test_a_public_name_has_one_meaning() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                found[node.name].add(package)
    shared = {name: sorted(packages) for name, packages in found.items() if len(packages) > 1}
    assert {name: where for name, where in shared.items() if name not in SHARED_NAMES} == {}, "name what it does"
    assert SHARED_NAMES.keys() - shared.keys() == set(), "strike it off the list"


def test_a_module_name_has_one_meaning() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for module in MODULES:
        found[module.rpartition(".")[2]].append(module)
    commands = {module.rpartition(".")[2] for module in MODULES if module.startswith("fusepipe.commands.")}
    shared = {name: where for name, where in found.items() if len(where) > 1}
    unlisted = shared.keys() - SHARED_MODULES.keys() - (commands - {"console", "data"})
    assert {name: shared[name] for name in unlisted} == {}, "name what the module holds"
    assert SHARED_MODULES.keys() - shared.keys() == set(), "strike it off the list"
