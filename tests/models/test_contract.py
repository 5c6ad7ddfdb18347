"""The contract: what it says of itself, and that it survives the manifest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.contract import FIRST, UNKNOWN, Contract, ContractError


def test_targets_and_values_are_named_weakest_first(contract: Contract) -> None:
    assert contract.targets == ("click", "purchase")
    assert contract.values == ("amount",)
    assert contract.objective == {"click": 0.1, "purchase": 1.0}
    weightless = replace(contract, behaviours=tuple(replace(b, weight=0.0) for b in contract.behaviours))
    assert weightless.objective == {"click": 1.0, "purchase": 1.0}


def test_behaviours_have_ids_from_first_on_and_strangers_are_unknown(contract: Contract) -> None:
    assert [contract.type_id(name) for name in ("click", "cart", "purchase", "dance")] == [
        FIRST,
        FIRST + 1,
        FIRST + 2,
        UNKNOWN,
    ]


def test_a_contract_read_back_from_json_is_the_same(contract: Contract) -> None:
    again = Contract.from_json(contract.to_json())
    assert again == contract
    assert again.fingerprint() == contract.fingerprint()


def test_a_contract_without_exposures_is_as_it_was_before_there_were_any(contract: Contract) -> None:
    """So artifacts of before still serve; the fingerprint is that of the commit before."""
    without = replace(contract, exposed=0)
    assert "exposed" not in without.to_json()
    assert without.fingerprint() == "9572d02e512d5ddc"
    assert not {"exposed", "exposures"} & without.signatures()["encode"].inputs.keys()
    assert contract.signatures()["encode"].inputs["exposed"].shape == (None, 4, 3)


def test_another_length_is_another_fingerprint(contract: Contract) -> None:
    assert replace(contract, history_length=6).fingerprint() != contract.fingerprint()


@pytest.mark.parametrize("change", [{"items": None}, {"surprise": 1}, {"state_shape": 5}, {"fields": [{"name": "x"}]}])
def test_a_broken_contract_is_refused_in_one_sentence(contract: Contract, change: dict[str, object]) -> None:
    data = {**contract.to_json(), **change}
    data = {key: value for key, value in data.items() if value is not None}
    with pytest.raises(ContractError, match="export the model again"):
        Contract.from_json(data)


def test_signatures_give_dtype_and_shape_of_every_tensor(contract: Contract) -> None:
    signatures = contract.signatures()
    assert set(signatures) == {"encode", "embed_items", "retrieve", "relevance", "query", "score", "explain"}
    assert signatures["encode"].outputs["state"].shape == (None, 4, 11)
    assert signatures["encode"].outputs["state"].dtype == "float16"
    assert set(signatures["score"].outputs) == {"click", "purchase", "amount"}
    assert signatures["retrieve"].outputs["items"].shape == (None, 3)
