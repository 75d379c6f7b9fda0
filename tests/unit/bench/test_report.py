"""quire/bench/report.py"""

from __future__ import annotations

import json
from pathlib import Path

from quire.bench.report import append_lines, machine, table


def test_a_table_keeps_its_columns_under_each_other() -> None:
    assert table(("job", "value"), [("a", "1.0"), ("longer", "12345.6")]).splitlines() == [
        "job       value",
        "------  -------",
        "a           1.0",
        "longer  12345.6",
    ]


def test_records_are_added_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    append_lines(str(path), [{"a": 1}])
    append_lines(str(path), [machine()])
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {"a": 1}
    assert second["num_cores"] >= 1
