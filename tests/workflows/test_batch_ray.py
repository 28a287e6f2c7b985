"""``fusepipe batch --ray``: the same outputs from actors, also when one is killed; and clusters that are not there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from helpers.waiting import wait_for

from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.workflows.batch import ray_pool
from fusepipe.workflows.batch.ray_pool import NODE_STARTS, RayPool

CLIPS = 4


def batch(folder: Path, out: str, *options: str) -> list[str]:
    """The command for equal short clips; each takes a while, so that a worker can be killed while it fuses."""
    url = "synthetic://street?size=160x120&fps=25&duration=1s&pace=fast"
    rows = "".join(f"{url},{url},{number}.mkv,mean\n" for number in range(CLIPS))
    (folder / "clips.csv").write_text(f"infrared,visible,output,fusion.model\n{rows}")
    words = ["batch", str(folder / "clips.csv"), "--out", str(folder / out), "--json", *options]
    return [sys.executable, "-m", "fusepipe", *words]


def hashes(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.mkv")}


def actors(batch: int) -> list[psutil.Process]:
    """Those that fuse now, of the cluster that this batch has started."""
    found = psutil.Process(batch).children(recursive=True)
    return [process for process in found if "_ClipActor.fuse" in " ".join(process.cmdline())]


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.timeout(500)
def test_actors_make_the_outputs_of_processes_also_when_one_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    subprocess.run(batch(tmp_path, "here", "--workers", "1"), stdout=subprocess.DEVNULL, check=True, timeout=200)
    command = batch(tmp_path, "cluster", "--workers", "2", "--ray", "local")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            killed: list[int] = []

            def kill_one() -> bool:
                for actor in actors(process.pid):
                    actor.kill()
                    killed.append(actor.pid)
                    return True
                return process.poll() is not None

            wait_for(kill_one, timeout_s=240)
            output, errors = process.communicate(timeout=240)
        finally:
            process.kill()
    assert process.returncode == 0 and killed, errors
    report = json.loads(output)
    assert (report["finished"], report["failed"]) == (CLIPS, 0)
    assert max(clip["attempts"] for clip in report["clips"]) == 2, "the clip of the killed actor was tried again"
    assert hashes(tmp_path / "cluster") == hashes(tmp_path / "here")


def pool(address: str) -> RayPool:
    return RayPool(address, 1, 1, 60.0, Path())


class _Ray(SimpleNamespace):
    """Fails as Ray does, and counts."""

    def __init__(self) -> None:
        super().__init__(attempts=0, open=0)

    def init(self, *_words: object, **_options: object) -> None:
        self.attempts += 1
        self.open += 1
        raise Exception("The current node timed out during startup.\nSee raylet.out")

    def shutdown(self) -> None:
        self.open = 0


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> _Ray:
    """In place of Ray, which need not be installed for what goes wrong before it is used."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    stub = _Ray()
    monkeypatch.setitem(sys.modules, "ray", stub)
    return stub


def test_a_node_of_its_own_that_does_not_start_is_started_again(ray: _Ray) -> None:
    with pytest.raises(FusepipeError, match=r"the Ray cluster local cannot be reached: See raylet\.out") as refused:
        pool("local")
    assert (ray.attempts, ray.open) == (NODE_STARTS, 0) and refused.value.exit_code == 1


def test_another_cluster_is_tried_once(ray: _Ray) -> None:
    with pytest.raises(FusepipeError, match="cluster auto cannot be reached"):
        pool("auto")
    assert (ray.attempts, ray.open) == (1, 0)


@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        ("127.0.0.1:1", FusepipeError, "cannot be reached: Connection refused; is 'ray start' running?"),
        ("ray://127.0.0.1:1", FusepipeError, "cannot be reached: Connection refused"),
        ("ray://admin:geheim99@127.0.0.1:1", UsageError, "no users and passwords; leave out what is before the @"),
        ("no.such.host.invalid:6379", FusepipeError, "cannot be reached"),
        ("127.0.0.1:99999", FusepipeError, "cannot be reached"),
        ("somewhere", UsageError, "write HOST:PORT"),
        (":6379", UsageError, "write HOST:PORT"),
        ("ray://admin:geheim99@host", UsageError, "no users and passwords"),
    ],
)
@pytest.mark.usefixtures("ray")
def test_a_cluster_that_is_not_there_is_named_at_once(address: str, error: type[FusepipeError], says: str) -> None:
    with pytest.raises(error) as refused:
        pool(address)
    assert says in str(refused.value) and "geheim99" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_pool_without_a_task_waits(ray: _Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(ray_pool.time, "sleep", slept.append)
    actor = SimpleNamespace(start=SimpleNamespace(remote=lambda *_words: "started"))
    ray.init = lambda *_words, **_options: None
    ray.cluster_resources = dict
    ray.remote = lambda **_options: lambda _class: SimpleNamespace(remote=lambda: actor)
    ray.wait = lambda pending, **_options: (pending, [])
    ray.get = lambda _pending: None
    ray.exceptions = SimpleNamespace(RayTaskError=ValueError, RayError=OSError)
    (tmp_path / ".batch").mkdir()
    (tmp_path / ".batch" / "lock").touch()
    waiting = RayPool("local", 1, 1, 60.0, tmp_path)
    assert waiting.wait(0.2) == [] and waiting.idle == 1 and slept == []
    assert waiting.wait(0.2) == [] and slept == [0.2]


def test_ray_is_named_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'fusepipe\[ray\]'"):
        pool("local")
