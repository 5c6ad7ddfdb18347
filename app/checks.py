"""What a prediction request must satisfy that its types cannot say: the model's names and the settings' bounds."""

from __future__ import annotations

from collections.abc import Iterator

from app.errors import MAX_FIELDS, FieldProblem, InvalidPayload
from app.schemas import PredictRequest
from app.settings import Settings
from models.contract import Contract


def check(request: PredictRequest, contract: Contract, settings: Settings, explains: bool) -> None:
    """Raise InvalidPayload naming every field the model (which ``explains`` or not) or the settings do not allow."""
    found = [*_shape(request, settings), *_names(request, contract)]
    if request.explain and not explains:
        found.append(FieldProblem("explain", "this model cannot explain itself; leave explain out or export it again"))
    if found:
        detail = f"{found[0].field}: {found[0].problem}" if len(found) == 1 else f"{len(found)} fields are invalid."
        raise InvalidPayload(detail, fields=found[:MAX_FIELDS])


def _shape(request: PredictRequest, settings: Settings) -> Iterator[FieldProblem]:
    if request.user_id is None and request.session is None:
        yield FieldProblem("user_id", "send user_id, session or both")
    if request.k > settings.max_k:
        yield FieldProblem("k", f"must be at most {settings.max_k}")
    if len(request.items) > settings.max_items:
        yield FieldProblem("items", f"must have at most {settings.max_items} items")
    if request.rank == "items" and not request.items:
        yield FieldProblem("items", 'must name the items to rank, as rank is "items"')


def _names(request: PredictRequest, contract: Contract) -> Iterator[FieldProblem]:
    if request.objective is not None:
        for name in request.objective:
            if name not in contract.targets:
                yield FieldProblem(f"objective.{name}", f"is no target; this model has {_list(contract.targets)}")
        if not any(request.objective.values()):
            yield FieldProblem("objective", "must have a weight that is not 0")
    if not request.session and not request.filters.exclude_seen:
        return
    behaviours = [behaviour.name for behaviour in contract.behaviours]
    for place, event in enumerate(request.session or ()):
        if event.type not in behaviours:
            yield FieldProblem(f"session.{place}.type", f"is no behaviour; this model has {_list(behaviours)}")
    for place, name in enumerate(request.filters.exclude_seen):
        if name not in behaviours:
            problem = f"is no behaviour; this model has {_list(behaviours)}"
            yield FieldProblem(f"filters.exclude_seen.{place}", problem)


def _list(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names)
