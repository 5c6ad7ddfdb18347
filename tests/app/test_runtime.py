"""The runtime over real TensorFlow and the shipped model: what it verifies, and that batches change nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.catalogue import ItemContent
from app.errors import StartupError
from app.metrics import Metrics
from app.runtime import Runtime, choose_device, verify_signatures
from app.settings import Settings
from models.artifact import Artifact, open_artifact, publish
from models.contract import FIRST, UNKNOWN
from models.encode import Event, encode_history, to_history

SAVED = Path(__file__).parents[2] / "models" / "saved"
FOREVER = float("inf")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    runtime = Runtime.load(Settings(model_root=SAVED), Metrics())
    yield runtime
    runtime.close()


def scene(runtime: Runtime, items: list[int]) -> dict[str, np.ndarray]:
    """The encoder's inputs for clicks on some items, a minute apart."""
    artifact = runtime.artifact
    names = [artifact.vocabulary.item_name(item) for item in items]
    events = [Event(name, "click", 1e9 + 60 * i) for i, name in enumerate(names)]
    return encode_history(to_history(events, artifact.vocabulary, artifact.contract), artifact.contract)


async def outcomes(runtime: Runtime, items: list[int], candidates: list[int]) -> dict[str, np.ndarray]:
    state = await runtime.encode(scene(runtime, items), deadline=FOREVER)
    context = np.zeros(len(runtime.artifact.contract.fields), np.int32)
    return await runtime.score(state, len(items), context, np.array(candidates, np.int32), deadline=FOREVER)


async def test_requests_computed_together_get_what_they_get_alone(runtime: Runtime) -> None:
    asked = [([], [5]), ([7, 8, 9], [10, 11, 12, 13]), ([20] * 50, [20, 21])]
    together = await asyncio.gather(*(outcomes(runtime, *one) for one in asked))
    for one, found in zip(asked, together, strict=True):
        alone = await outcomes(runtime, *one)
        for name, values in alone.items():
            assert found[name].shape == (len(one[1]),)
            np.testing.assert_allclose(found[name], values, atol=1e-5)


async def test_retrieval_keeps_to_what_is_allowed_also_beside_a_request_that_allows_all(runtime: Runtime) -> None:
    state = await runtime.encode(scene(runtime, [7, 8]), deadline=FOREVER)
    context = np.zeros(len(runtime.artifact.contract.fields), np.int32)
    allowed = np.zeros(runtime.artifact.contract.items, bool)
    allowed[[30, 40]] = True
    (few, few_scores), (every, every_scores) = await asyncio.gather(
        runtime.retrieve(state, 2, context, allowed, deadline=FOREVER),
        runtime.retrieve(state, 2, context, None, deadline=FOREVER),
    )
    assert set(few[np.isfinite(few_scores)].tolist()) == {30, 40}
    assert np.isfinite(every_scores).all()
    assert (every >= FIRST).all()
    assert len(set(every.tolist())) == len(every)


async def test_an_item_beyond_the_vocabulary_is_scored_by_its_content(runtime: Runtime) -> None:
    assert runtime.item_id("brand new") == UNKNOWN
    categories = tuple(level[0] for level in runtime.artifact.vocabulary.categories)
    new = {"brand new": ItemContent("New", categories, 3.0, True), "other": ItemContent(None, (), None, True)}
    ids = await runtime.add_items(new, deadline=FOREVER)
    assert ids == await runtime.add_items(new, deadline=FOREVER)
    assert runtime.item_id("brand new") == ids["brand new"] >= runtime.artifact.contract.items
    found = await outcomes(runtime, [7], [ids["brand new"], ids["other"]])
    for name in runtime.artifact.contract.targets:
        assert ((found[name] > 0) & (found[name] < 1)).all()
        assert found[name][0] != found[name][1]


def test_a_gpu_that_is_not_there_is_told_and_auto_takes_the_cpu() -> None:
    with pytest.raises(StartupError, match="FORETELL_DEVICE is gpu, but TensorFlow finds no GPU"):
        choose_device("gpu")
    assert choose_device("auto") == choose_device("cpu") == "cpu"


def republish(root: Path, golden: list[dict[str, Any]]) -> Artifact:
    """The shipped model with other golden examples, every checksum right."""
    shipped = open_artifact(SAVED, "storefront")
    known = {"format", "name", "version", "kind", "fingerprint", "contract", "files", "digest"}

    def copy(folder: Path) -> None:
        shutil.copytree(shipped.saved_model, folder)

    return publish(
        root,
        "storefront",
        kind="behaviour",
        contract=shipped.contract,
        vocabulary=shipped.vocabulary,
        golden=golden,
        metrics=shipped.metrics(),
        facts={key: value for key, value in shipped.manifest.items() if key not in known},
        save_model=copy,
    )


def test_a_golden_example_that_comes_out_differently_stops_the_start(tmp_path: Path) -> None:
    golden = json.loads(json.dumps(open_artifact(SAVED, "storefront").golden()))
    golden[2]["expected"]["purchase"][0] += 0.001
    republish(tmp_path, golden)
    with pytest.raises(StartupError, match="Golden example 2 gives another purchase than was recorded"):
        Runtime.load(Settings(model_root=tmp_path), Metrics())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"state_dtype": "float32"}, "has state as float16"),
        ({"retrieval_size": 7}, "has items as int32"),
        ({"value_scales": {}}, "has the outputs"),
    ],
)
def test_signatures_that_are_not_the_contracts_are_told(
    runtime: Runtime, change: dict[str, Any], sentence: str
) -> None:
    from dataclasses import replace

    contract = replace(runtime.artifact.contract, **change)
    with pytest.raises(StartupError, match=sentence):
        verify_signatures(runtime._module, contract)


def test_a_saved_model_tensorflow_cannot_read_is_one_sentence(tmp_path: Path) -> None:
    shipped = open_artifact(SAVED, "storefront")

    def nonsense(folder: Path) -> None:
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"nonsense")

    publish(
        tmp_path,
        "storefront",
        kind="behaviour",
        contract=shipped.contract,
        vocabulary=shipped.vocabulary,
        golden=[],
        metrics={},
        facts={},
        save_model=nonsense,
    )
    with pytest.raises(StartupError, match="TensorFlow cannot load"):
        Runtime.load(Settings(model_root=tmp_path), Metrics())
