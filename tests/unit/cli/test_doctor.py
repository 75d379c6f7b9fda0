from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from quire.cli import main
from quire.cli._facts import Facts, _processor, find_facts
from quire.cli.doctor import Finding, examine

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


def test_a_busy_port_offers_another() -> None:
    assert "--port" in findings(WELL, port_is_free=False)["port"].remedy


def test_a_gpu_is_seen_and_said_to_be_idle() -> None:
    assert "not used yet" in findings(replace(WELL, gpus=("Some GPU, 80 GB",)))["gpu"].text


def test_the_processor_is_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name : Fast One\nflags : fpu avx2 avx512f amx_tile amx_bf16\n")
    assert _processor(tmp_path / "cpuinfo") == ("Fast One", ("avx2", "avx512", "bf16", "amx"))
    assert _processor(tmp_path / "nothing")[1] == ()


def test_this_machine_can_be_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_facts().num_cores >= 1
    assert main(["doctor", "--json", "--port", "0"]) == 0
    found = {one["name"] for one in json.loads(capsys.readouterr().out)}
    assert {"python", "torch", "cpu", "memory", "gpu", "hub", "port", "compiler"} <= found
    assert main(["doctor"]) == 0
    assert "python" in capsys.readouterr().out


def test_the_facts_can_be_pasted_into_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect-env"]) == 0
    assert "torch" in capsys.readouterr().out
    assert main(["collect-env", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_cores"] >= 1
