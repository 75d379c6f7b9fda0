"""The kernels without Python: native/tests, compiled for this processor and, where the tools are there, for Arm."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.arch.source import ROOT

NATIVE = ROOT / "native"
FAMILIES = ("gemm", "rows", "attention")
CHECKS = ("gemm", "rows", "draws", "attention")
LEVELS = {"x86_64": ("portable", "avx2", "avx512", "avx512bf16"), "aarch64": ("portable", "neon", "neonbf16")}
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # a minute of compiling when native/ has changed


def flags() -> dict[str, list[str]]:
    """What CMake compiles with: under each level's name its own flags, under "" those of all files."""
    text = re.sub(r"#.*", "", (NATIVE / "CMakeLists.txt").read_text())
    every = re.search(r"target_compile_options\(_native PRIVATE([^)]*)\)", text)
    assert every is not None
    found = {"": every[1].split(), "portable": []}
    for name, words in re.findall(r"^set\((\w+) ([^)]*)\)", text, re.MULTILINE):
        found[name] = [flag for word in words.split() for flag in found.get(word.strip("${}"), [word])]
    return found


def sources(levels: tuple[str, ...]) -> dict[Path, str]:
    """The checks, and what they check: each file with the level that it is compiled for."""
    found = {path: "" for path in [NATIVE / "isa.cpp", *(NATIVE / "tests").glob("*.cpp")]}
    for path in (path for family in FAMILIES for path in (NATIVE / family).glob("*.cpp")):
        level = path.stem.rpartition("_")[2]
        if re.search(r'#include [<"](Python|arguments|program)\.h', path.read_text()):
            continue
        if level in levels or not any(level in others for others in LEVELS.values()):
            found[path] = level if level in levels else ""
    return found


def build(compiler: str, machine: str) -> Path:
    """The program, compiled unless it has been since anything under native/ changed."""
    files, options = sources(LEVELS[machine]), flags()
    said = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    for path in sorted(path for path in NATIVE.rglob("*") if path.suffix in (".h", ".cpp", ".txt")):
        said += path.read_bytes()
    folder = ROOT / "build" / "checks" / f"{machine}-{hashlib.sha256(said).hexdigest()[:16]}"
    program = folder / "checks"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    always = [compiler, "-std=gnu++17", f"-I{NATIVE}", *options[""]]

    def compile_one(path: Path) -> str:
        made = folder / f"{path.stem}.{os.getpid()}.o"
        command = [*always, *options.get(files[path], []), "-c", str(path), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(made)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, files))
    linked = folder / f"checks.{os.getpid()}"
    static = ["-static"] if compiler == CROSS else []
    command = [compiler, "-fopenmp", *static, *objects, "-o", str(linked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for made in objects:
        Path(made).unlink()
    linked.replace(program)
    return program


def run(command: list[str]) -> tuple[str, dict[str, int]]:
    """The best level of the processor, and how many checks ran for "level family"."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    best = re.match(r"best (\w+)\n", done.stdout)
    assert best is not None
    lines = re.findall(r"^(\w+ \w+): (\d+) checks, 0 failed$", done.stdout, re.MULTILINE)
    return best[1], {name: int(count) for name, count in lines}


def expect_all(levels: tuple[str, ...], ran: dict[str, int]) -> None:
    assert set(ran) == {f"{level} {check}" for level in levels for check in CHECKS}
    assert min(ran.values()) > 200


def test_kernels_of_this_processor_agree_with_float64_and_depend_on_their_row_alone() -> None:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    levels = LEVELS.get(platform.machine())
    if levels is None:
        pytest.skip(f"no kernels of their own for {platform.machine()}")
    best, ran = run([str(build(compiler, platform.machine()))])
    expect_all(levels[: levels.index(best) + 1], ran)


def test_kernels_for_arm_do_so_under_an_emulator_and_are_chosen_by_what_the_processor_has() -> None:
    for tool, package in ((CROSS, "g++-aarch64-linux-gnu"), (EMULATOR, "qemu-user")):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} (Debian has it in {package})")
    program = str(build(CROSS, "aarch64"))
    best, ran = run([EMULATOR, "-cpu", "cortex-a72", program, "neon", "neonbf16"])
    assert best == "neon"
    expect_all(("neon",), ran)
    best, ran = run([EMULATOR, "-cpu", "max", program, "neonbf16"])
    assert best == "neonbf16"
    expect_all(("neonbf16",), ran)
