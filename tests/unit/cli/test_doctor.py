from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from msgspec.structs import replace

from quire.cli import main
from quire.cli._facts import Facts, _processor, find_facts
from quire.cli.doctor import Finding, examine, judge_openmp

WELL = Facts(
    quire="0",
    python="3.12.1",
    system="Linux 6",
    machine="x86_64",
    packages={"torch": "2.12", "numpy": "2"},
    processor="CPU",
    extensions=("avx2", "bf16"),
    num_cores=4,
    num_cores_seen=8,
    total_bytes=2**34,
    available_bytes=2**33,
    memory_limited_by="free memory",
    gpus=(),
    hub_cache="/cache",
    num_cached=1,
    disk_bytes=2**40,
    is_offline=False,
    compiler="/usr/bin/c++",
    kernels="avx512",
    quota=0.0,
    nodes=(4,),
    num_threads=4,
    threads_reason="cores of the 8 processors that this process may use",
    placement_reason="one node of memory: the kernel places threads well",
)


def findings(facts: Facts, *, port_is_free: bool = True) -> dict[str, Finding]:
    return {one.name: one for one in examine(facts, port_is_free, 8000)}


def test_a_machine_that_is_well_needs_no_remedy() -> None:
    assert [one.remedy for one in examine(WELL, True, 8000) if one.remedy] == []


def test_a_missing_package_is_fatal_and_named_with_its_remedy() -> None:
    found = findings(replace(WELL, packages={"torch": None, "numpy": "2"}))["torch"]
    assert found.is_fatal and found.remedy == "pip install torch"


def test_an_old_python_is_fatal() -> None:
    assert findings(replace(WELL, python="3.9.2"))["python"].is_fatal


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"extensions": ()}, "cpu", "AVX2"),
        ({"extensions": ("avx2",)}, "cpu", "float32"),
        ({"available_bytes": 2**29}, "memory", "2 GiB"),
        ({"disk_bytes": 2**20}, "hub", "HF_HOME"),
        ({"compiler": ""}, "compiler", "g++"),
        ({"kernels": ""}, "kernels", "C++ compiler"),
    ],
)
def test_what_could_be_better_is_noted_and_not_fatal(changes: dict[str, object], name: str, expected: str) -> None:
    found = findings(replace(WELL, **changes))[name]
    assert expected in found.remedy and not found.is_fatal


def test_threads_are_told_with_what_they_follow_from() -> None:
    assert findings(WELL)["threads"].text == (
        "4 cores in 1 node of memory, no quota: 4 threads (cores of the 8 processors that this process may use) "
        "on any of them (one node of memory: the kernel places threads well)"
    )
    two = replace(WELL, quota=3.5, nodes=(4, 4), num_threads=3, cpus=(0, 1, 2), placement_reason="because")
    text = findings(two)["threads"].text
    assert "4 + 4 cores in 2 nodes of memory, quota 3.5 processors: 3 threads" in text
    assert text.endswith("on processors 0,1,2 (because)")
    assert "unknown to /sys" in findings(replace(WELL, nodes=()))["threads"].text


def test_two_pools_of_threads_are_noted_with_the_way_out() -> None:
    assert judge_openmp(True, ("/a/libgomp.so.1",)) == Finding("openmp", "one pool of threads: /a/libgomp.so.1")
    apart = judge_openmp(False, ("/a/libgomp.so.1", "/b/libiomp5.so"))
    assert "/b/libiomp5.so" in apart.text and "PyPI" in apart.remedy and not apart.is_fatal


def test_a_busy_port_offers_another() -> None:
    assert "--port" in findings(WELL, port_is_free=False)["port"].remedy


def test_a_gpu_is_seen_and_said_to_be_idle() -> None:
    assert "not used yet" in findings(replace(WELL, gpus=("Some GPU, 80 GB",)))["gpu"].text


def test_the_processor_is_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name : Fast One\nflags : fpu avx2 avx512f amx_tile amx_bf16\n")
    assert _processor(tmp_path / "cpuinfo") == ("Fast One", ("avx2", "avx512", "bf16", "amx"))
    assert _processor(tmp_path / "nothing")[1] == ()


@pytest.mark.skipif(find_spec("quire._native") is None, reason="Quire was built without its native kernels")
def test_kernels_are_seen_without_torch() -> None:
    code = "import sys; from quire.cli._facts import find_facts; print(find_facts().kernels, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kernels, has_torch = done.stdout.split()
    assert kernels in ("portable", "avx2", "avx512", "avx512bf16", "neon", "neonbf16") and has_torch == "False"


def test_this_machine_can_be_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_facts().num_cores >= 1
    assert main(["doctor", "--json", "--port", "0"]) == 0
    found = {one["name"] for one in json.loads(capsys.readouterr().out)}
    assert {"python", "torch", "cpu", "threads", "openmp", "memory", "gpu", "hub", "port", "compiler"} <= found
    assert main(["doctor"]) == 0
    assert "python" in capsys.readouterr().out


def test_the_facts_can_be_pasted_into_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect-env"]) == 0
    assert "torch" in capsys.readouterr().out
    assert main(["collect-env", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_cores"] >= 1
