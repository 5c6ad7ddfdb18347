"""The wire, outwards: what answers look like, for the OpenAPI page; they are made of the objects of app.answers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """One field that is to blame."""

    field: str
    problem: str


class ErrorResponse(BaseModel):
    """Every error has this shape."""

    error: str = Field(description="A code for programs, e.g. `invalid_payload`.")
    detail: str = Field(description="One sentence for people.")
    fields: list[Problem] | None = None


class Model(BaseModel):
    """Which model answered."""

    name: str
    version: str


class ExplainedEvent(BaseModel):
    """A past event that moved the prediction."""

    item_id: str
    title: str | None = Field(description="The item's title, where the catalogue has one.")
    type: str
    at: datetime
    contribution: float


class ExplainedField(BaseModel):
    """A field of the context that moved the prediction."""

    field: str
    value: str | None = Field(description="What it says; null where the model does not know the value.")
    contribution: float


class ExplainedAttribute(BaseModel):
    """An attribute of the item that moved the prediction."""

    attribute: str = Field(
        description="`item` (being this very item), `category 1` (coarse) and on, `price`, `popularity`."
    )
    contribution: float


class Explanation(BaseModel):
    """Why an item has its probability of one target, in log-odds: 0.7 doubles the odds, -0.7 halves them.

    `base` plus all contributions (those of `other_events` included) is `log_odds`. Lists begin with what moved most.
    """

    base: float = Field(description="Log-odds where nothing is known of user and item, at an average moment.")
    log_odds: float = Field(description="Of the probability: 1 / (1 + exp(-log_odds)).")
    events: list[ExplainedEvent] = Field(description="At most 5.")
    other_events: float = Field(description="What the events that are not listed contribute together.")
    context: list[ExplainedField] = Field(description="Fields of the request, of the user and of the clock.")
    attributes: list[ExplainedAttribute]


class Prediction(BaseModel):
    """What the model expects of one item."""

    item_id: str
    probabilities: dict[str, float] = Field(description="Probability of each target behaviour.")
    expected: dict[str, float] = Field(
        description="Expected size of each value **given that its behaviour happens**: "
        "`amount` is what a purchase would come to, not what to expect of showing the item."
    )
    explanation: dict[str, Explanation] | None = Field(
        description="By target; null unless `explain` asks for it and this is one of the first 10."
    )


class Recommendation(Prediction):
    """One place of the ranking."""

    rank: int = Field(description="1 is best.")
    title: str | None = Field(description="The item's title, where the catalogue has one.")
    score: float = Field(description="Sum of weight * probability, after the diversity discount.")
    reason: Literal["history", "popular", "requested"] = Field(
        description="Why it is here: the user's history, popularity (no history), or the request named it."
    )


class Provenance(BaseModel):
    """Where the answer came from."""

    state: Literal["cached", "computed", "session", "anonymous"]
    state_age_ms: int = Field(description="Age of the encoded history.")
    history: int = Field(description="The user's events, those of the session included (counted up to 10,000).")
    degraded: list[Literal["cache", "history", "explanation"]] = Field(description="Parts that the answer lacks.")


class Warning_(BaseModel):
    """Something the answer leaves out."""

    model_config = ConfigDict(title="Warning")

    code: Literal["unknown_item"]
    item_id: str


class PredictResponse(BaseModel):
    """Predictions for the named items, and ranked recommendations."""

    request_id: str
    user_id: str | None
    model: Model
    predictions: list[Prediction] = Field(description="In the order of `items`; unknown ones are left out.")
    recommendations: list[Recommendation]
    warnings: list[Warning_]
    provenance: Provenance
    took_ms: float


class BatchResponse(BaseModel):
    """An answer or an error for each request, in their order."""

    answers: list[PredictResponse | ErrorResponse]


class Rejected(BaseModel):
    """An event that was not stored."""

    index: int = Field(description="Its place in `events`, from 0.")
    error: Literal["invalid", "unknown_type", "clock_skew", "too_old", "erased"]
    detail: str


class EventsResponse(BaseModel):
    """What became of the events. Accepted and duplicate ones are in every later prediction."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]
    degraded: list[Literal["cache"]] = Field(
        description="`cache`: stored, but a cached state may hide it until Redis is back or the state expires"
    )


class DescribedResponse(BaseModel):
    """The profile is stored."""

    user_id: str
    degraded: list[Literal["cache"]] = Field(
        description="`cache`: predictions may use the old profile until Redis is back or the cached state expires"
    )


class ErasedResponse(BaseModel):
    """The user is erased."""

    deleted: dict[str, int] = Field(description="Documents by collection; zeros where nothing was held.")
