"""A published model that was never trained, for tests of what happens to models afterwards."""

from __future__ import annotations

from pathlib import Path

from models.artifact import Artifact
from models.datasets.dataset import Dataset
from models.export import export
from models.log import build_contract, build_log, build_vocabulary, split_by_time
from models.run import TrainConfig, build_network, build_variables


def publish_untrained(shop: Dataset, root: Path, name: str, model: str = "logistic") -> Artifact:
    """Publish an untrained model of a data set below ``root``, with the facts that training would write."""
    split = split_by_time(shop)
    vocabulary = build_vocabulary(shop, split.validation)
    contract = build_contract(shop, vocabulary, shop.domain, split.validation, history_length=8, negatives=2)
    network = build_network(
        contract, build_log(shop, vocabulary, contract, split.validation).content, TrainConfig(model=model)
    )
    build_variables(network)
    quality = {"ece": 0.02, "logloss": 0.3}
    chosen = {
        "method": "beta",
        "rows": 90,
        "positives": 9,
        "before": quality,
        "after": quality,
        "cross-fitted": quality,
    }
    return export(
        network,
        root,
        name,
        kind=model,
        vocabulary=vocabulary,
        golden=[],
        metrics={"learning": {"train": {"loss": [2.0, 1.0], "val_loss": [2.5, 2.0]}}, "train_seconds": 3.0},
        facts={
            "dataset": {"name": shop.name, "synthetic": shop.synthetic},
            "split": {"validation": split.validation, "test": split.test},
            "training": {"model": model, "epochs": 1},
            "calibration": {"fitted_on": "validation", "targets": {"click": {"20+": chosen}}},
            "examination": [1.0] * 12,
            "parameters": 77,
        },
    )
