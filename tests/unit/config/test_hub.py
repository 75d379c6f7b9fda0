from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Never

import pytest

from quire.config.hub import Source, locate
from quire.errors import CheckpointError, ModelNotFound
from tests.unit.config.checkpoints import write_checkpoint, write_tensors

COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every attempt to connect is written down and fails."""
    attempts: list[object] = []

    def refuse(*arguments: object, **_: object) -> Never:
        attempts.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


def cached_model(cache: Path, name: str = "models--org--model", *, weights: bool = True) -> Path:
    folder = cache / name / "snapshots" / COMMIT
    write_checkpoint(folder, {"tokenizer.json": {}})
    if weights:
        write_tensors(folder / "model.safetensors", {"a": (1,)})
    refs = cache / name / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    return folder


def test_a_local_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[object]) -> None:
    (tmp_path / "org/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("org/model") == Path("org/model") and not no_network


@pytest.mark.parametrize("name", ["folio", "quire/folio"])
def test_folio_is_the_bundled_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(name).parts[-2:] == ("bundled", "folio")


def test_a_cached_model_is_found_without_any_connection(tmp_path: Path, no_network: list[object]) -> None:
    folder = cached_model(tmp_path)
    assert locate("org/model", Source(download_dir=str(tmp_path))) == folder and not no_network


def test_an_offline_machine_finds_a_cached_model_by_revision(tmp_path: Path, no_network: list[object]) -> None:
    folder = cached_model(tmp_path)
    source = Source(revision=COMMIT, download_dir=str(tmp_path), is_offline=True)
    assert locate("org/model", source) == folder and not no_network


def test_offline_and_not_cached_is_said(tmp_path: Path, no_network: list[object]) -> None:
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE"):
        locate("org/model", Source(download_dir=str(tmp_path), is_offline=True))
    assert not no_network


def test_a_half_downloaded_model_is_not_taken_for_whole(tmp_path: Path) -> None:
    folder = cached_model(tmp_path)
    index = {"weight_map": {"a": "model.safetensors", "b": "missing.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFound, match="does not hold it completely"):
        locate("org/model", Source(download_dir=str(tmp_path), is_offline=True))


def test_texts_alone_are_enough_when_no_weights_are_wanted(tmp_path: Path) -> None:
    folder = cached_model(tmp_path, weights=False)
    source = Source(download_dir=str(tmp_path), is_offline=True, needs_weights=False)
    assert locate("org/model", source) == folder


def test_no_network_is_said_with_the_name(tmp_path: Path, no_network: list[object]) -> None:
    with pytest.raises(ModelNotFound, match=r"org/model .*could not be fetched") as caught:
        locate("org/model", Source(download_dir=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./nope", "/no/such/folder", "a/b/c", "org/mo del", "~/nope", "org/"])
def test_what_cannot_be_a_hub_id_is_a_missing_folder(name: str, no_network: list[object]) -> None:
    with pytest.raises(ModelNotFound, match="no folder"):
        locate(name)
    assert not no_network


def test_an_empty_name_is_no_model() -> None:
    with pytest.raises(ModelNotFound, match="empty"):
        locate(" ")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"")
    with pytest.raises(ModelNotFound, match="is a file"):
        locate(str(tmp_path / "x.gguf"))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("GatedRepoError", "gated: accept its terms"),
        ("RepositoryNotFoundError", "check the spelling"),
        ("RevisionNotFoundError", "no revision 'v9'"),
    ],
)
def test_a_refusal_of_the_hub_is_put_into_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: str
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    error_type = getattr(errors, kind)

    def fail(*_: object, local_files_only: bool = False, **__: object) -> Never:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        raise error_type.__new__(error_type)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelNotFound, match=expected):
        locate("org/model", Source(download_dir=str(tmp_path), revision="v9"))


def test_without_a_network_the_reason_and_the_way_out_are_one_sentence_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def fail(*_: object, local_files_only: bool = False, **__: object) -> Never:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        raise OSError("Got: ConnectError: [Errno -2] Name or service not known\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelNotFound) as caught:
        locate("org/model", Source(download_dir=str(tmp_path)))
    assert str(caught.value) == (
        "org/model is no local folder and could not be fetched from the hub (ConnectError: [Errno -2] Name or service "
        "not known). Check the spelling and the network, or name a local folder."
    )


def test_a_download_asks_for_texts_and_safetensors_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    asked: dict[str, object] = {}

    def download(name: str, *, local_files_only: bool = False, **arguments: object) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        asked.update(arguments, name=name)
        write_checkpoint(tmp_path / "got")
        write_tensors(tmp_path / "got" / "model.safetensors", {"a": (1,)})
        return str(tmp_path / "got")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate("org/model", Source(token="secret", revision="v1")) == tmp_path / "got"
    assert (asked["name"], asked["token"], asked["revision"]) == ("org/model", "secret", "v1")
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list) and "*.safetensors" in patterns and "*.bin" not in patterns


def test_a_model_without_safetensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def download(name: str, *, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        return str(write_checkpoint(tmp_path / "got"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match=r"no \.safetensors"):
        locate("org/model")
