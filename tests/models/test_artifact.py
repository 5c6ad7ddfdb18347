"""An artifact is published whole, found by its newest version, and refused when anything about it was changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact import Artifact, ArtifactError, names, open_artifact, publish, versions
from models.contract import Contract
from models.vocabulary import Vocabulary


@pytest.fixture
def root(tmp_path: Path, contract: Contract, vocabulary: Vocabulary) -> Path:
    publish_one(tmp_path, contract, vocabulary)
    return tmp_path


def publish_one(root: Path, contract: Contract, vocabulary: Vocabulary, name: str = "shop") -> Artifact:
    def save_model(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text("numbers")

    return publish(
        root,
        name,
        kind="behaviour",
        contract=contract,
        vocabulary=vocabulary,
        golden=[{"at": 1.0}],
        metrics={"auc": 0.5},
        facts={"parameters": 3},
        save_model=save_model,
    )


def test_what_is_published_can_be_opened(root: Path, contract: Contract) -> None:
    artifact = open_artifact(root, "shop")
    assert (artifact.name, artifact.version, artifact.contract) == ("shop", "1", contract)
    assert artifact.golden() == [{"at": 1.0}]
    assert artifact.metrics() == {"auc": 0.5}
    assert artifact.manifest["parameters"] == 3
    assert (artifact.saved_model / "weights").read_text() == "numbers"


def test_latest_is_the_highest_number(root: Path, contract: Contract, vocabulary: Vocabulary) -> None:
    for _ in range(9):
        publish_one(root, contract, vocabulary)
    assert versions(root, "shop")[-2:] == ["9", "10"]
    assert open_artifact(root, "shop").version == "10"
    assert open_artifact(root, "shop", "9").version == "9"
    assert names(root) == ["shop"]


def test_a_failed_export_leaves_nothing_behind(root: Path, contract: Contract, vocabulary: Vocabulary) -> None:
    def fail(folder: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(
            root,
            "shop",
            kind="behaviour",
            contract=contract,
            vocabulary=vocabulary,
            golden=[],
            metrics={},
            facts={},
            save_model=fail,
        )
    assert [path.name for path in (root / "shop").iterdir()] == ["1"]


def edit_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["contract"]["history_length"] = 7
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (edit_manifest, "was changed after it was written"),
        (lambda folder: (folder / "saved_model/weights").write_text("other"), "is not the file that was published"),
        (lambda folder: (folder / "vocabulary.json").unlink(), "lacks vocabulary.json"),
        (lambda folder: (folder / "saved_model/extra").write_text("x"), "which its manifest does not list"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 0}'), "this Foretell reads"),
        (lambda folder: (folder / "manifest.json").unlink(), "No model named"),
    ],
)
def test_damage_is_told_in_one_sentence(root: Path, damage: Callable[[Path], object], sentence: str) -> None:
    damage(root / "shop" / "1")
    with pytest.raises(ArtifactError, match=sentence):
        open_artifact(root, "shop")


def test_a_model_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="foretell train"):
        open_artifact(tmp_path, "shop")
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        open_artifact(tmp_path, "shop", "3")
