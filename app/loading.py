"""The model, loaded into this process: what has to be known before TensorFlow is imported is found out here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from app.metrics import Metrics
from app.priority import behind
from app.settings import Settings
from models.artifact import open_artifact
from models.contract import Contract

if TYPE_CHECKING:
    from app.runtime import Runtime

#: TensorFlow's own name for whether it computes with oneDNN; what the environment says already is obeyed.
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


def load(settings: Settings, metrics: Metrics) -> Runtime:
    """Load the configured artifact onto the configured device; takes seconds, call it off the event loop.

    On a thread of its own: those of TensorFlow begin with the first function that is run, and stand back as it does.

    Raises:
        ArtifactError, ContractError, StartupError: see :meth:`app.runtime.Runtime.load`.
    """
    with behind("load", settings.model_niceness) as executor:
        return executor.submit(_load, settings, metrics).result()


def _load(settings: Settings, metrics: Metrics) -> Runtime:
    artifact = open_artifact(settings.model_root, settings.model_name, settings.model_version)
    if not wants_onednn(artifact.contract, settings):
        os.environ.setdefault(ONEDNN, "0")
    from app.runtime import Runtime  # here, because it imports TensorFlow

    return Runtime.load(artifact, settings, metrics)


def wants_onednn(contract: Contract, settings: Settings) -> bool:
    """Whether anything that is asked all the time is computed by oneDNN: what XLA does not compile, and an index.

    Where nothing is, oneDNN costs memory alone: each thread keeps what it has prepared for the last 1,024 shapes of
    every operation, and the lengths of histories that are explained, or of lists of items, are shapes. One length of a
    history is about 4 MiB, all of them are 280 (docs/decisions/0017; tensorflow issue 23455).
    """
    return not settings.xla or settings.indexes(contract.items)
