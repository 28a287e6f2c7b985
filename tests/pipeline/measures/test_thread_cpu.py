"""CPU time of the threads that libraries start belongs to the stage that started them."""

import json
import subprocess
import sys

import pytest

from fusepipe.pipeline.measures.thread_cpu import EnginePool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="native threads are measured on Linux")


# In a process of its own: the engine's threads are started by the first rig of a process, here by another test's.
MEASURED = """
import json, threading, time
import numpy as np
from fusepipe.core.fuser import FusionBatch
from fusepipe.pipeline.measures.thread_cpu import StageCpu
from fusepipe.rig.factories.fusers import load_fuser

cpu, used = StageCpu(), {}

def fuse():
    cpu.started("fuse")
    with load_fuser("mfe", "openvino", "fp32") as fuser:
        images = (np.zeros((240, 320), np.uint8),)
        fuser.prepare(240, 320)
        before_ns, own_ns = time.process_time_ns(), time.thread_time_ns()
        for _ in range(3):
            begun_ns = time.monotonic_ns()
            fuser.submit(FusionBatch(images, images)).result()
            cpu.fusion_busy(time.monotonic_ns() - begun_ns)
        used["process"] = time.process_time_ns() - before_ns
        used["own"] = time.thread_time_ns() - own_ns
        used["row"] = cpu.cpu_ns()["fuse"]
    cpu.ended("fuse")

thread = threading.Thread(target=fuse)
thread.start()
thread.join()
print(json.dumps({**used, "ended": cpu.cpu_ns()["fuse"]}))
"""


def test_the_cpu_time_of_an_engine_is_in_the_row_of_its_stage():
    ran = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, timeout=110, check=True)
    used = json.loads(ran.stdout)
    assert used["ended"] >= used["row"], "kept when its threads have ended"
    assert used["row"] > 0.8 * used["process"] > 2 * used["own"], used


def test_rigs_share_the_time_of_the_pool_by_how_long_their_stages_were_busy():
    pool = EnginePool()
    pool.busy("1", 300)
    pool.busy("2", 100)
    native = {"1:fuse": 4000, "1:write-1": 99, "python": 50}
    assert (pool.cpu_ns("1", native), pool.cpu_ns("2", native)) == (3000, 1000)
    pool.busy("2", 10)
    assert pool.cpu_ns("2", {**native, "1:fuse": 4500}) == 1500 and pool.cpu_ns("1", native) == 3000
