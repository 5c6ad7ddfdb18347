"""Which model serves, and which versions lie beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Response

from app.access import Needs
from app.dependencies import ModelDep, SettingsDep
from app.model import Model
from app.openapi import KEYED
from app.responses import json_response
from models import artifact as artifacts

router = APIRouter(tags=["models"], dependencies=[Depends(Needs("predict"))], responses=KEYED)

#: Parts of the manifest that are for machines.
INTERNAL = frozenset({"format", "name", "version", "kind", "fingerprint", "contract", "files", "digest"})


@router.get("/models", summary="The model that serves, and the versions on disk")
async def models(model: ModelDep, settings: SettingsDep) -> Response:
    """What the active model predicts, where it runs, what it was trained on and how good it was."""
    return json_response(await asyncio.to_thread(_describe, model, settings.model_root))


def _describe(model: Model, root: Path) -> dict[str, Any]:
    artifact = model.artifact
    contract = artifact.contract
    context = [field.name for field in contract.fields if field.source == "request"]
    active = {
        "name": artifact.name,
        "version": artifact.version,
        "kind": artifact.manifest["kind"],
        "device": model.device,
        "fingerprint": contract.fingerprint(),
        "targets": contract.targets,
        "values": contract.values,
        "objective": contract.objective,
        "behaviours": [{"name": b.name, "target": b.target, "value": b.value} for b in contract.behaviours],
        "context": context,
        "context_values": {name: artifact.vocabulary.fields[name] for name in context},
        "history_length": contract.history_length,
        "exposed": contract.exposed > 0,
        "probability_of": contract.probability_of,
        "explains": model.explains,
        "facts": {key: value for key, value in artifact.manifest.items() if key not in INTERNAL},
        "metrics": artifact.metrics(),
    }
    return {"active": active, "available": {name: artifacts.versions(root, name) for name in artifacts.names(root)}}
