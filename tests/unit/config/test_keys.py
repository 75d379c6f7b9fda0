"""The file of keys: what it may say, and one line for what it may not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from quire.config.keys import read_keys
from quire.errors import ConfigError

DIGEST = hashlib.sha256(b"sesame").hexdigest()


def written(folder: Path, text: str) -> Path:
    path = folder / "keys.yaml"
    path.write_text(text)
    return path


def test_a_key_has_a_name_a_digest_and_what_it_may(tmp_path: Path) -> None:
    text = f"""
keys:
  - name: search
    sha256: {DIGEST}
    weight: 2.5
    max_concurrency: 8
    tokens_per_minute: 100000
    models: [folio, other/one]
    shares_prefixes: true
  - {{name: batch, sha256: "{"0" * 64}"}}
"""
    search, batch = read_keys(written(tmp_path, text))
    assert (search.name, search.weight, search.max_concurrency) == ("search", 2.5, 8)
    assert (search.tokens_per_minute, search.models, search.shares_prefixes) == (100000, ("folio", "other/one"), True)
    assert (batch.weight, batch.max_concurrency, batch.models, batch.shares_prefixes) == (1.0, None, None, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys: []", "no key"),
        ("keys: [{name: a}]", "sha256"),
        (f"keys: [{{name: a, sha256: {DIGEST}, wait: 3}}]", "wait"),
        (f"keys: [{{name: 'a b', sha256: {DIGEST}}}]", "name"),
        (f"keys: [{{name: '', sha256: {DIGEST}}}]", "name"),
        (f"keys: [{{name: a, sha256: {DIGEST}, weight: 0}}]", "weight"),
        (f"keys: [{{name: a, sha256: {DIGEST}, weight: .nan}}]", "weight"),
        (f"keys: [{{name: a, sha256: {DIGEST}, max_concurrency: 0}}]", "max_concurrency"),
        ("keys: [{name: a, sha256: sesame}]", "sha256"),
        (f"keys: [{{name: a, sha256: {DIGEST}}}, {{name: a, sha256: {'a' * 64}}}]", "two keys have the name"),
        (f"keys: [{{name: a, sha256: {DIGEST}}}, {{name: b, sha256: {DIGEST}}}]", "two keys have the sha256"),
        ("keys: [", "keys.yaml"),
        ("!!python/object/apply:os.system ['true']", "keys.yaml"),
        ("", "keys.yaml"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_keys(path)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "none.yaml")
