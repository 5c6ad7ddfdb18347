"""One exported model version on disk: written whole or not at all, and verified before it is trusted.

``models/saved/<name>/<version>/`` holds ``saved_model/``, ``manifest.json``, ``vocabulary.json``, ``golden.json`` and
``metrics.json``. The manifest lists the SHA-256 of every other file and of its own content, so that a copied, truncated
or edited artifact is found before a single prediction is made with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.contract import Contract
from models.vocabulary import Vocabulary

MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.json"
GOLDEN = "golden.json"
METRICS = "metrics.json"
SAVED_MODEL = "saved_model"

#: Raised by one whenever the layout or the meaning of the manifest changes.
FORMAT = 1


class ArtifactError(Exception):
    """An artifact that is missing, damaged or made for another contract. The message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified model version: where it lies, what it promises, and its vocabulary."""

    path: Path
    manifest: Mapping[str, Any]
    contract: Contract
    vocabulary: Vocabulary

    @property
    def name(self) -> str:
        """The model's name, e.g. ``storefront``."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """The version, a whole number written as text."""
        return str(self.manifest["version"])

    @property
    def saved_model(self) -> Path:
        """The folder TensorFlow loads."""
        return self.path / SAVED_MODEL

    @property
    def horizon_days(self) -> float:
        """Days within which what it predicts happens; 0: with the next event, or what is shown."""
        return float(self.manifest.get("training", {}).get("horizon_days", 0.0))

    def golden(self) -> list[dict[str, Any]]:
        """The examples (raw events and the outputs they must give) that are replayed before serving."""
        return list(_read_json(self.path / GOLDEN)["examples"])

    def metrics(self) -> dict[str, Any]:
        """What evaluation measured on this version."""
        return dict(_read_json(self.path / METRICS))


def open_artifact(root: Path, name: str, version: str = "latest") -> Artifact:
    """Find and verify one version below ``root``.

    Raises:
        ArtifactError: no such model or version; a file missing, changed or unlisted; a manifest that was edited, has
            another format, or does not fit its own vocabulary.
    """
    folder = root / name
    if version == "latest":
        known = versions(root, name)
        if not known:
            raise ArtifactError(f"No model named {name!r} in {root}; train one with `foretell train`.")
        version = known[-1]
    return read_artifact(folder / version)


def check_name(name: str) -> None:
    """Raises ArtifactError for a name that is no plain file name: it could be published, but never be asked for."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ArtifactError(f"{name!r} cannot name a model: use letters, digits, `_`, `.` and `-`.")


def read_artifact(path: Path) -> Artifact:
    """Verify the version folder at ``path`` and read it. Raises ArtifactError as :func:`open_artifact` does."""
    if not (path / MANIFEST).is_file():
        raise ArtifactError(f"{path} is not a model artifact: it has no {MANIFEST}.")
    manifest = _read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} has format {manifest.get('format')!r}, this Foretell reads {FORMAT}; export the model again."
        )
    if manifest.get("digest") != _digest(manifest):
        raise ArtifactError(f"{path / MANIFEST} was changed after it was written; export the model again.")
    _verify_files(path, manifest["files"])
    contract = Contract.from_json(manifest["contract"])
    if manifest["fingerprint"] != contract.fingerprint():
        raise ArtifactError(f"{path} was made for another version of the contract; export the model again.")
    vocabulary = Vocabulary.load(path / VOCABULARY)
    if len(vocabulary) != contract.items:
        raise ArtifactError(f"{path} has {len(vocabulary)} item ids, its contract says {contract.items}.")
    return Artifact(path, manifest, contract, vocabulary)


def versions(root: Path, name: str) -> list[str]:
    """Published versions of a model, oldest first."""
    folder = root / name
    if not folder.is_dir():
        return []
    numbers = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit() and (p / MANIFEST).is_file())
    return [str(n) for n in numbers]


def names(root: Path) -> list[str]:
    """Models that have at least one published version."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and versions(root, p.name)) if root.is_dir() else []


def publish(
    root: Path,
    name: str,
    *,
    kind: str,
    contract: Contract,
    vocabulary: Vocabulary,
    golden: list[dict[str, Any]],
    metrics: Mapping[str, Any],
    facts: Mapping[str, Any],
    save_model: Callable[[Path], None],
) -> Artifact:
    """Write the next version of ``name`` and make it visible by one atomic rename.

    Args:
        kind: which network it is (``behaviour``, ``logistic``).
        golden: examples to replay, see :meth:`Artifact.golden`.
        facts: what a reader of the manifest should know besides: data, training, TensorFlow version.
        save_model: writes the SavedModel into the folder it is given.
    """
    check_name(name)
    (root / name).mkdir(parents=True, exist_ok=True)
    draft = root / name / f".draft-{uuid.uuid4().hex}"
    draft.mkdir()
    try:
        save_model(draft / SAVED_MODEL)
        vocabulary.save(draft / VOCABULARY)
        _write_json(draft / GOLDEN, {"examples": golden})
        _write_json(draft / METRICS, metrics)
        version = str(int((versions(root, name) or ["0"])[-1]) + 1)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "name": name,
            "version": version,
            "kind": kind,
            "fingerprint": contract.fingerprint(),
            **facts,
            "contract": contract.to_json(),
            "files": {str(p.relative_to(draft)): _sha256(p) for p in _files(draft)},
        }
        manifest["digest"] = _digest(manifest)
        _write_json(draft / MANIFEST, manifest)
        os.rename(draft, root / name / version)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return read_artifact(root / name / version)


def _verify_files(path: Path, listed: Mapping[str, str]) -> None:
    found = {str(p.relative_to(path)) for p in _files(path)} - {MANIFEST}
    if missing := sorted(set(listed) - found):
        raise ArtifactError(f"{path} lacks {missing[0]}; copy the artifact again or export the model again.")
    if extra := sorted(name for name in found - set(listed) if name.startswith(SAVED_MODEL)):
        raise ArtifactError(f"{path} holds {extra[0]}, which its manifest does not list; export the model again.")
    for name, digest in listed.items():
        if _sha256(path / name) != digest:
            raise ArtifactError(f"{path / name} is not the file that was published; copy or export the model again.")


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    content = {k: v for k, v in manifest.items() if k != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}).") from error
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} does not hold a JSON object.")
    return data


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
