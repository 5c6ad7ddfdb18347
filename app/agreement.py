"""Whether model, contract and settings agree, asked once at the start."""

from __future__ import annotations

from typing import Any

from app.errors import StartupError
from app.settings import Settings
from models.contract import FIRST, OPTIONAL, Contract


def verify_reach(settings: Settings, contract: Contract) -> None:
    """Compare what the settings ask for with what the model retrieves. Raises StartupError where that is less.

    A model that retrieves all its items is never too small: then k is above the catalogue, and the answer shorter.
    """
    if contract.retrieval_size >= contract.items - FIRST:
        return
    for name, wanted in (("FORETELL_CANDIDATES", settings.candidates), ("FORETELL_MAX_K", settings.max_k)):
        if wanted > contract.retrieval_size:
            raise StartupError(
                f"{name} is {wanted}, but the model retrieves {contract.retrieval_size} items at most: "
                "set it to that or less, or export a model that retrieves more."
            )


def verify_signatures(module: Any, contract: Contract) -> None:
    """Compare what the SavedModel offers with the contract. Raises StartupError at the first difference."""
    for name, signature in contract.signatures().items():
        if name in OPTIONAL and name not in module.signatures:
            continue
        if name not in module.signatures:
            raise StartupError(f"The model offers no signature {name!r}; export it again.")
        function = module.signatures[name]
        offered = {
            "inputs": function.structured_input_signature[1],
            "outputs": function.structured_outputs,
        }
        for side, promised in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            if set(offered[side]) != set(promised):
                raise StartupError(
                    f"The model's {name} has the {side} {sorted(offered[side])}, the contract wants "
                    f"{sorted(promised)}; export it again."
                )
            for key, spec in promised.items():
                found = offered[side][key]
                if found.dtype.name != spec.dtype or not found.shape.is_compatible_with(spec.shape):
                    raise StartupError(
                        f"The model's {name} has {key} as {found.dtype.name}{found.shape}, the contract wants "
                        f"{spec.dtype}{spec.shape}; export it again."
                    )


def verify_tables(module: Any, device: str, xla: bool) -> None:
    """Raises StartupError where XLA on a GPU could not read a table: one of int32, as models were exported before."""
    if device.startswith("gpu") and xla and module.categories.dtype.name == "int32":
        raise StartupError(
            "The model keeps its categories where XLA on a GPU cannot read them: export it again, "
            "or set FORETELL_XLA=false or FORETELL_DEVICE=cpu."
        )
