"""``fusepipe doctor`` on machines and installations other than this one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from fusepipe.cli import cli
from fusepipe.commands.doctor import report
from fusepipe.core import machine
from fusepipe.core.errors import EngineError
from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.choose import misfit_of_packages
from fusepipe.workflows.doctor import diagnosis, packages
from fusepipe.workflows.doctor.backends import check_backends
from fusepipe.workflows.doctor.doctor_check import DoctorCheck, healthy

INTEL = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile
processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu
"""
PI = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\nModel\t\t: Raspberry Pi 5\n"


def distribution(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    """What pip leaves of an installed wheel, without its files."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires), ""]))


def one(checks: list[DoctorCheck], name: str) -> DoctorCheck:
    (check,) = [check for check in checks if check.name == name]
    return check


# -- machine


def test_the_features_of_a_processor_are_read_by_what_they_are_for() -> None:
    found = machine.parse_cpuinfo(INTEL, "x86_64")
    assert found.name == "Intel(R) Xeon(R) Platinum 8488C"
    assert found.features == {"AVX2": True, "AVX-512": True, "VNNI": True, "bf16": True, "AMX": True}


def test_an_arm_processor_has_its_own_features() -> None:
    found = machine.parse_cpuinfo(PI, "aarch64")
    assert found.name == "Raspberry Pi 5"
    assert found.features == {"dot product": True, "i8mm": False, "bf16": False, "SVE": False}


def test_a_system_without_proc_is_a_note(tmp_path: Path) -> None:
    nowhere = tmp_path / "nothing"
    found = machine.processor(nowhere)
    checks = diagnosis.check_system(found, 4.0, machine.memory_bytes(nowhere, nowhere))
    assert found.features == {}
    assert one(checks, "CPU features").status == one(checks, "memory").status == "note"
    assert healthy(checks)


def test_a_containers_limits_count(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 30}\n")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n")
    assert machine.usable_cores(tmp_path) == 0.5
    assert machine.memory_bytes(meminfo, tmp_path) == (2 << 30, 1 << 30)


def test_no_limits_outside_a_container(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.usable_cores(tmp_path) == machine.usable_cores(tmp_path / "nothing") >= 1


def test_a_machine_without_nvidias_driver_has_no_gpu() -> None:
    assert machine.nvidia_gpus("no-such-tool-of-nvidia") == []


# -- packages


def test_two_cv2_wheels_are_a_problem_with_the_commands_that_repair_it(tmp_path: Path) -> None:
    distribution(tmp_path, "opencv-python-headless", "4.12.0.88")
    distribution(tmp_path, "opencv_contrib_python", "4.11.0.86")  # as some wheels spell themselves
    check = packages.check_cv2_wheels(packages.installed_versions([str(tmp_path)]))
    assert check.status == "problem"
    assert "opencv-python-headless 4.12.0.88 and opencv-contrib-python 4.11.0.86" in check.message
    assert check.fix == (
        "pip uninstall -y opencv-python-headless opencv-contrib-python && pip install opencv-python-headless"
    )


def test_one_cv2_wheel_is_right(tmp_path: Path) -> None:
    distribution(tmp_path, "opencv-python-headless", "4.12.0.88")
    distribution(tmp_path, "numpy", "2.2.0")
    assert packages.check_cv2_wheels(packages.installed_versions([str(tmp_path)])).status == "ok"


def test_the_remains_of_a_removed_distribution_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "numpy-1.0.dist-info").mkdir()
    assert packages.installed_versions([str(tmp_path)]) == {}


def test_the_requirements_are_those_without_extras() -> None:
    found = packages.requirements("fusepipe")
    assert found["opencv-python-headless"] == "4.13"
    assert found["ruamel-yaml"] == "0.18"
    assert "torch" not in found and "pytest" not in found


def test_a_package_that_is_missing_or_old_is_a_problem() -> None:
    checks = packages.check_dependencies(
        {"numpy": "2.0", "av": "14.2", "rich": "13.7"}, {"numpy": "1.26.4", "av": "14.10"}
    )
    assert [check.status for check in checks] == ["problem", "ok", "problem"]
    assert checks[0].message == "1.26.4 is older than 2.0" and checks[0].fix == "pip install 'numpy>=2.0'"
    assert checks[2].fix == "pip install 'rich>=13.7'"


def test_another_cv2_wheel_in_place_of_ours_is_a_note() -> None:
    (check,) = packages.check_dependencies({"opencv-python-headless": "4.10"}, {"opencv-python": "4.11.0.86"})
    assert check.status == "note"
    assert "pip uninstall -y opencv-python &&" in check.fix


def test_optional_packages_come_with_the_line_that_installs_them() -> None:
    checks = packages.check_optional({"pycuda": "2026.1"}, lambda name: None, [], backends=["openvino"])
    assert healthy(checks)
    assert one(checks, "torch").fix == "pip install 'fusepipe[train]'"
    assert "does not use yet" in one(checks, "tensorrt").message
    assert one(checks, "tensorrt").fix == "pip install 'fusepipe[tensorrt]'"
    assert "has no module pycuda" in one(checks, "pycuda").message
    with_backend = packages.check_optional({"tensorrt": "10.9"}, lambda name: "spec", ["a GPU"], backends=["tensorrt"])
    assert one(with_backend, "tensorrt").status == one(with_backend, "NVIDIA GPU").status == "ok"
    assert "yet" not in one(with_backend, "tensorrt").message


# -- backends


def backends(packages: set[str], gpu: Gpu | None = None, misfit: str = "") -> dict[str, DoctorCheck]:
    found = check_backends(lambda name: name if name in packages else None, gpu, "no driver", lambda name, gpu: misfit)
    assert healthy(found)
    return {check.name: check for check in found}


def test_each_backend_says_what_it_lacks_and_how_to_install_it() -> None:
    bare = backends(set())
    assert bare["openvino"].status == "ok"
    assert bare["tensorrt"].fix == "pip install 'fusepipe[tensorrt,cuda]'"
    assert "tensorrt_rtx, cuda-bindings or pycuda, an NVIDIA GPU (no driver)" in bare["tensorrt-rtx"].message
    assert bare["torch"].fix == "pip install 'fusepipe[train]'"
    assert bare["building"].fix == "pip install 'fusepipe[build]'"
    older = backends(set(), Gpu("RTX 4090", "SM89", "12.4", ""))
    assert older["tensorrt-rtx"].fix == "pip install 'fusepipe[tensorrt-rtx-cu12,cuda12]'"


def test_a_gpu_runs_what_is_installed_for_it() -> None:
    there = {"tensorrt_rtx", "cuda.bindings", "onnx", "ml_dtypes"}
    ada = Gpu("RTX 4090", "SM89", "13.0", "13.0")
    found = backends(there, ada)
    assert found["tensorrt-rtx"].status == "ok" and "SM89" in found["tensorrt-rtx"].message
    assert found["tensorrt"].status == "note" and "the package tensorrt" in found["tensorrt"].message
    assert found["building"].message == "build-engine builds for openvino, tensorrt-rtx"
    hopper = Gpu("H200", "SM90", "13.0", "13.0")
    refused = backends(there, hopper, misfit_of_packages("tensorrt-rtx", hopper))["tensorrt-rtx"]
    assert refused.status == "note" and "does not run on H200 (SM90" in refused.message
    assert "tensorrt,cuda" in refused.fix
    broken = backends(there, ada, "NVIDIA's driver supports CUDA 12.4: update the driver, or pip install X")
    assert "supports CUDA 12.4" in broken["tensorrt-rtx"].message and "update" in broken["tensorrt-rtx"].fix


# -- what has to work


def module_that(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> str:
    (folder / f"{name}.py").write_text(body)
    monkeypatch.syspath_prepend(str(folder))
    return name


def test_a_cv2_that_needs_libgl_is_a_problem_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    name = module_that(tmp_path, monkeypatch, "cv2_without_libgl", f"raise ImportError({message!r})")
    check = diagnosis.check_cv2_import(name)
    assert check.status == "problem"
    assert check.message == f"ImportError: {message}"
    assert "libGL" in check.fix and check.fix.endswith("pip install opencv-python-headless")


def test_a_cv2_of_which_half_was_removed_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = diagnosis.check_cv2_import(module_that(tmp_path, monkeypatch, "cv2_half_removed", ""))
    assert check.status == "problem" and "empty" in check.message


@pytest.mark.parametrize("error", [OSError("bad ELF"), RuntimeError("no CPU plug-in")])
def test_an_openvino_that_breaks_becomes_a_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ModuleType("openvino")

    def core() -> None:
        raise error

    monkeypatch.setattr(broken, "Core", core, raising=False)
    monkeypatch.setitem(sys.modules, "openvino", broken)
    (check,) = diagnosis.check_openvino()
    assert check.status == "problem"
    assert check.message == f"{type(error).__name__}: {error}"


def test_a_missing_pyav_becomes_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (check,) = diagnosis.check_video()
    assert check.status == "problem" and check.fix.startswith("pip install")


def test_an_ffmpeg_without_x264_is_a_problem() -> None:
    check = diagnosis.check_codecs({("h264", "r"): True, ("ffv1", "w"): True})
    assert check.status == "problem"
    assert check.message == "this FFmpeg encodes no libx264"


def test_missing_weights_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise EngineError("the weights of 'stream' are missing from this installation (x): reinstall fusepipe")

    monkeypatch.setattr("fusepipe.rig.factories.fusers.load_fuser", refuse)
    (check,) = diagnosis.check_model()
    assert check.status == "problem" and "weights" in check.message and check.fix == "reinstall fusepipe"


# -- folders


def test_a_cache_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    assert diagnosis.check_cache(tmp_path / "new" / "folder").status == "ok"
    (tmp_path / "file").write_text("")
    check = diagnosis.check_cache(tmp_path / "file" / "fusepipe")
    assert check.status == "note" and "XDG_CACHE_HOME" in check.fix


def test_a_missing_folder_is_a_note(tmp_path: Path) -> None:
    assert diagnosis.check_disk(tmp_path).name == "disk"
    assert diagnosis.check_disk(tmp_path / "gone").status == "note"


# -- command


def test_this_machine_can_run_fusepipe() -> None:
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    document = json.loads(result.output)
    problems = [check for check in document["checks"] if check["status"] == "problem"]
    assert problems == []
    assert result.exit_code == 0 and document["ok"] is True
    assert {"cv2 wheels", "OpenVINO", "codecs", "model stream", "disk"} <= {c["name"] for c in document["checks"]}


def test_a_problem_is_exit_code_1_and_its_fix_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fix = "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless"
    checks = [DoctorCheck("packages", "cv2 wheels", "problem", "two " * 40, fix)]
    monkeypatch.setattr(diagnosis, "diagnose", lambda: checks)
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert f"-> {fix}\n" in result.output
    assert "1 problem;" in result.output
    assert all(len(line) <= 80 for line in report(checks, 80) if "->" not in line and "\x1b" not in line)


def test_the_url_schemes_that_this_ffmpeg_reads_are_listed() -> None:
    known = {"rtsp": True, "http": True, "udp": True, "srt": False}
    found = diagnosis.check_protocols(known)
    assert (found.status, found.message) == ("ok", "reads rtsp://, http://, udp://; not: srt://")
    assert diagnosis.check_protocols({**known, "rtsp": False}).status == "problem"
    assert "rtsp://" in one(diagnosis.check_video(), "live inputs").message


def test_how_video_is_encoded_is_said_with_the_reason() -> None:
    check = one(diagnosis.check_video(), "video encoder")
    assert check.status == "ok" and "encodes video" in check.message
    software = diagnosis.check_encoders({"nvenc": "no driver", "qsv": "no device"})
    assert software.message == "encodes video in software, with x264 (nvenc: no driver; qsv: no device)"
    hardware = diagnosis.check_encoders({"nvenc": "no driver", "qsv": ""})
    assert hardware.message == (
        "encodes video with qsv where encoder is auto, which encoded a test clip; not nvenc: no driver"
    )


def test_how_video_is_decoded_is_said_with_the_reason() -> None:
    check = one(diagnosis.check_video(), "video decoder")
    assert check.status == "ok" and "decodes video" in check.message
    software = diagnosis.check_decoders({"nvdec": "no NVIDIA driver"})
    assert software.message == "decodes video in software (nvdec: no NVIDIA driver)"
    hardware = diagnosis.check_decoders({"nvdec": "", "vaapi": "no device"})
    assert hardware.message == "decodes video with nvdec, which decoded a test clip exactly; not vaapi: no device"
