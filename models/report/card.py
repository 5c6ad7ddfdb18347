"""The model card (Mitchell et al. 2019): what a model is, what it was made of, what it is for and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any

from models.artifact import Artifact
from models.contract import Contract
from models.datasets.dataset import Dataset
from models.log import Split

#: Words about networks, by kind.
KINDS = {
    "behaviour": "a Transformer over the user's history",
    "logistic": "logistic regression on aggregated features",
    "svm": "a linear support vector machine on aggregated features",
    "dnn": "a feed-forward network on aggregated features",
    "popularity": "logistic regression on the item's popularity",
}


def card(artifact: Artifact, dataset: Dataset) -> dict[str, str]:
    """Names and texts of the card."""
    manifest, contract = artifact.manifest, artifact.contract
    targets, values = ", ".join(contract.targets), ", ".join(contract.values)
    fields = ", ".join(f"{field.name} ({field.source})" for field in contract.fields)
    licence = dataset.info.get("licence")  # data sets that were imported earlier do not say
    synthetic = "made by a simulator: no figure here says anything about real people." if dataset.synthetic else ""
    return {
        "Model": f"{artifact.name} {artifact.version}: {kind_of(manifest)}",
        "Predicts": f"the probability of {targets}" + (f"; the expected {values} where it happens" if values else ""),
        "A probability means": meaning(contract),
        "Sees": f"up to {contract.history_length} past events of the user; {fields}",
        "Data": f"{dataset.name}, {_day(dataset.info['from'])} to {_day(dataset.info['to'])} {synthetic}".strip(),
        "Synthetic": "yes" if dataset.synthetic else "no",
        "Licence of the data": str(licence or "not recorded at import: check it before you publish or sell results"),
        "Trained on": trained_on(Split.of(artifact)),
        "Intended use": "ranking items and estimating what a user does next, for users and items like those it was "
        "trained on, with retraining as they change.",
        "Not for": "decisions about people (credit, work, insurance, prices for persons), nor for causal claims: what "
        "a user would do is not what a recommendation makes them do.",
        "Limits": " ".join(limits(contract)),
        "Artifact": f"fingerprint {manifest['fingerprint']}, TensorFlow {manifest.get('tensorflow', 'unknown')}",
    }


def kind_of(manifest: Mapping[str, Any]) -> str:
    """What a network is, and for which targets another has a say beside it."""
    kind = KINDS.get(manifest["kind"], str(manifest["kind"]))
    stacked = [target for target, choice in manifest.get("stack", {}).items() if choice["stacked"]]
    if not stacked:
        return kind
    return f"{kind}, with {KINDS['logistic']} beside it for {' and '.join(stacked)} of items that a user has not met"


def trained_on(split: Split) -> str:
    """Which events taught the model, and which chose among models."""
    start, end = _at(split.validation), _at(split.test)
    if split.refit:
        return (
            f"events before {end}, after a model of those before {start} was chosen and calibrated on the later of "
            "them; what came after is the test"
        )
    return f"events before {start}; chosen on those before {end}; what came later is the test"


def meaning(contract: Contract) -> str:
    """What a predicted probability is conditioned on."""
    if contract.probability_of == "exposure":
        return "the chance of it when the item is shown first, learned from what was shown"
    return (
        f"the chance of it for an item among one true and {contract.negatives} random ones, since these data do not "
        "say what was shown; use it to order and compare, not as a rate"
    )


def limits(contract: Contract) -> list[str]:
    """What a reader should not expect."""
    found = [f"Only the last {contract.history_length} events of a user count."]
    if "country" not in [f.name for f in contract.fields] and not any(f.source == "user" for f in contract.fields):
        found.append("Nothing is known of a user but the history.")
    found.append("New users get what suits their context alone; new items are told by their content alone.")
    if contract.probability_of != "exposure":
        found.append("Metrics against sampled items say how well items are told apart, not how often they are taken.")
    return found


def summary(dataset: Dataset) -> Mapping[str, Any]:
    """The data in numbers."""
    counts, events = dataset.info["counts"], dataset.events
    by_type = events["type"].value_counts(sort=True)
    types = ", ".join(f"{name} {count:,}" for name, count in zip(by_type["type"], by_type["count"], strict=True))
    each = events.group_by("user_id").len()["len"].to_list() or [0]
    return {
        "Events": f"{counts['events']:,}: {types}",
        "Users": f"{counts['users']:,}; events of one: {median(each):.0f} in the median, {max(each):,} at most",
        "Items": counts["items"],
        "Exposures": counts.get("exposures", 0) or "none: it is not known what was shown",
        "Time": f"{_day(dataset.info['from'])} to {_day(dataset.info['to'])}",
        "Files": ", ".join(f"{part['file']} ({part['rows']:,} rows)" for part in dataset.info.get("source", []))
        or "none",
        "Left out at import": _rejected(dataset.info.get("report", {})),
    }


def _rejected(report: Mapping[str, Any]) -> str:
    rejected = report.get("rejected") or {}
    return ", ".join(f"{count:,} {reason}" for reason, count in rejected.items()) or "nothing"


def _day(moment: Any) -> str:
    return str(moment or "unknown")[:10]


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
