"""Throughput against the number of requests, with the machine's limit: ``... -m benchmarks.peers.plot JSONL... PNG``.

Of several files the last one's point counts where both have it. Runs in the environment ``plot`` of setup.sh, which has
matplotlib; needs nothing of Quire.

Not here: the figures (scores.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

Points = list[tuple[int, float]]
_COLOURS = {"quire": "#c2410c", "vllm": "#2563eb", "llama.cpp": "#15803d", "openvino": "#7c3aed"}
_LINES = {16: "-", 8: "--", 4: ":"}


def curves(records: Sequence[dict[str, object]]) -> tuple[dict[tuple[str, int], Points], Points]:
    """For each racer (with its bits) the points (requests, output tokens/s), and those of the machine's limit.

    Points are the jobs of 128 + 64 tokens, of which all requests were run. Racers with one point are left out, and so
    is the limit of forms with fewer bits than 16.
    """
    racers: dict[tuple[str, int], dict[int, float]] = {}
    limit: dict[int, float] = {}
    for one in records:
        if one.get("unit") != "output tokens/s" or not str(one.get("job")).endswith(" x 128 + 64"):
            continue
        if one["num_run"] != one["num_requests"]:
            continue
        at = int(str(one["num_requests"]))
        racers.setdefault((str(one["racer"]), int(str(one["bits"]))), {})[at] = float(str(one["value"]))
        if one["limit"] is not None and one["bits"] == 16:
            limit[at] = float(str(one["limit"]))
    found = {name: sorted(points.items()) for name, points in racers.items() if len(points) > 1}
    return found, sorted(limit.items()) if found else []


def draw(records: Sequence[dict[str, object]], target: Path) -> None:
    """Write the picture, if there is a curve."""
    import matplotlib  # type: ignore[import-not-found, unused-ignore]  # the environment `plot`

    matplotlib.use("Agg")
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    racers, limit = curves(records)
    if not racers:
        return
    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=130)
    if limit:
        across, up = [at for at, _ in limit], [value for _, value in limit]
        axes.plot(across, up, color="#555555", linestyle="-.", marker="_", label="machine's limit (bf16)")
        axes.fill_between(across, up, color="#555555", alpha=0.06)
    for (name, bits), points in racers.items():
        colour = _COLOURS.get(next((known for known in _COLOURS if name.startswith(known)), ""), "#333333")
        width = 2.6 if name.startswith("quire") else 1.6
        across, up = [at for at, _ in points], [value for _, value in points]
        axes.plot(across, up, marker="o", color=colour, linestyle=_LINES[bits], linewidth=width, label=name)
    places = sorted({at for points in racers.values() for at, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(at) for at in places])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("requests at once")
    axes.set_ylabel("output tokens a second, prompts' time included")
    about = next((one["machine"] for one in records if "machine" in one), {})
    if isinstance(about, dict):
        when = str(about.get("date", ""))[:10]
        axes.set_title(f"{about.get('processor', '')}, {about.get('num_cores', '?')} cores, {when}", fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(target)


def main() -> None:
    *sources, target = sys.argv[1:]
    lines = [line for source in sources for line in Path(source).read_text(encoding="utf-8").splitlines()]
    draw([json.loads(line) for line in lines], Path(target))


if __name__ == "__main__":
    main()
