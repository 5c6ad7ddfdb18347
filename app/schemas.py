"""The wire, inwards: what requests look like, with the examples the OpenAPI page shows; app.replies has the answers.

Request models are strict (``"20"`` is no number) and forbid unknown fields: a typing mistake is told, not ignored.
They are parsed from the raw body by pydantic's own JSON parser, which bounds the nesting.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator

from app.wire import AnyTime, FieldName, Id, Name, Number, Scalar, Share, ShortId, Time, Weight

MAX_CONTEXT_FIELDS = 32
MAX_SESSION = 200
MAX_EVENTS = 1000
MAX_QUESTIONS = 200
MAX_EXPOSED = 200

Exposed = Annotated[
    list[Id] | None,
    Field(
        max_length=MAX_EXPOSED,
        fail_fast=True,
        description="The items this user was shown since the event before, in the order in which they were shown; `[]` "
        "if there was nothing new, left out if you do not know. A model that learned from exposures tells by it what a "
        "user passed over.",
    ),
]


class Wire(BaseModel):
    """Base of everything a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Context(Wire):
    """The moment of the request: its time, and any fields the model knows (``device``, ``country``, ``page``)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[FieldName, Scalar]

    at: Time | None = Field(
        default=None, description="When the question is asked; now, if left out. Without offset: UTC."
    )

    @model_validator(mode="after")
    def _few_fields(self) -> Context:
        if len(self.__pydantic_extra__) > MAX_CONTEXT_FIELDS:
            raise ValueError(f"must have at most {MAX_CONTEXT_FIELDS} fields")
        return self

    @property
    def fields(self) -> dict[str, Any]:
        """Everything but the time."""
        return self.__pydantic_extra__


class SessionEvent(Wire):
    """An event of the running session that was not sent to ``POST /events`` (yet)."""

    type: Name = Field(description="A behaviour of the model.")
    item_id: Id
    at: Time | None = Field(default=None, description="When; the time of the request, if left out.")
    value: Number | None = Field(default=None, description="What the behaviour carries: an amount, a rating.")
    exposed: Exposed = None


class Price(Wire):
    """A price range, ends included; items without a price are outside."""

    min: Annotated[Number, Field(ge=0)] | None = None
    max: Annotated[Number, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Price:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be above max")
        return self


class Filters(Wire):
    """What recommendations must satisfy."""

    categories: list[Id] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Only items with one of these at any level of their path.",
    )
    exclude_seen: list[Name] = Field(
        default_factory=list,
        max_length=32,
        description="Leave out items that the user's visible history has with these behaviours.",
    )
    price: Price | None = None


class PredictRequest(Wire):
    """What will this user do next? Send ``user_id``, ``session`` or both; the rest is optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u42", "k": 5},
                {
                    "user_id": "u42",
                    "items": ["i1", "i2"],
                    "k": 20,
                    "context": {"device": "mobile", "country": "DE", "page": "home"},
                    "session": [{"type": "click", "item_id": "i9"}],
                    "filters": {"categories": ["shoes"], "exclude_seen": ["purchase"], "price": {"max": 80}},
                    "objective": {"purchase": 1.0, "click": 0.1},
                    "diversity": 0.2,
                },
            ]
        }
    )

    user_id: Id | None = Field(
        default=None, description="Whose history to use. An unknown user is answered as anonymous."
    )
    session: list[SessionEvent] | None = Field(
        default=None,
        max_length=MAX_SESSION,
        fail_fast=True,
        description="Events since the stored history, in any order.",
    )
    items: list[Id] = Field(
        default_factory=list,
        max_length=10_000,
        fail_fast=True,
        description="Items to predict; `predictions` keep their order.",
    )
    rank: Literal["catalogue", "items"] = Field(
        default="catalogue", description="What `recommendations` are drawn from: the catalogue, or only `items`."
    )
    k: int = Field(default=20, ge=1, le=10_000, description="How many recommendations (at most FORETELL_MAX_K).")
    context: Context = Field(default_factory=lambda: Context.model_construct(), description="The moment.")
    filters: Filters = Field(default_factory=Filters)
    objective: dict[Name, Weight] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="score = sum of weight * probability; the model's own weights, if left out.",
    )
    diversity: Share = Field(
        default=0.0,
        description="Each item already chosen from a category multiplies the next one's score by 1 - diversity.",
    )
    exploration: Share = Field(
        default=0.0, description="Temperature of a random (Plackett-Luce) order; 0 orders by score alone."
    )
    explain: bool = Field(
        default=False,
        description="Say what moved the first 10 predictions and recommendations; takes tens of milliseconds.",
    )


def _keep_the_error(value: object, validate: Any) -> object:
    """Validate one element on its own: an invalid one becomes its error and spoils no other."""
    try:
        return validate(value)
    except ValidationError as error:
        return error


class BatchRequest(Wire):
    """Questions about many users at once; each is judged and answered on its own."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"requests": [{"user_id": "u42", "k": 5}, {"user_id": "u43", "k": 5}]}]}
    )

    requests: list[Annotated[PredictRequest, WrapValidator(_keep_the_error)]] = Field(
        min_length=1, max_length=MAX_QUESTIONS
    )


class EventIn(Wire):
    """One thing a user did."""

    event_id: ShortId = Field(description="Yours, unique; sending an event twice stores it once.")
    user_id: Id
    item_id: Id
    type: Name = Field(description="A behaviour of the model.")
    at: AnyTime | None = Field(default=None, description="When; now, if left out. Without offset: UTC.")
    value: Number | None = Field(default=None, description="What the behaviour carries: an amount, a rating.")
    request_id: ShortId | None = Field(default=None, description="The `request_id` of the prediction that led to it.")
    context: dict[FieldName, Scalar] | None = Field(default=None, max_length=MAX_CONTEXT_FIELDS)
    exposed: Exposed = None


class UserRequest(Wire):
    """What is known of a user beside their events."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"profile": {"country": "DE", "segment": "regular"}}]})

    profile: dict[FieldName, Scalar] = Field(
        max_length=MAX_CONTEXT_FIELDS,
        description="Fields of the user, also those the model does not know.",
    )


class EventsRequest(Wire):
    """Events to store; each is judged on its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "event_id": "e1",
                            "user_id": "u42",
                            "item_id": "i7",
                            "type": "purchase",
                            "value": 19.9,
                            "context": {"device": "mobile"},
                            "exposed": ["i3", "i7", "i9"],
                        }
                    ]
                }
            ]
        }
    )

    events: list[Annotated[EventIn, WrapValidator(_keep_the_error)]] = Field(min_length=1, max_length=MAX_EVENTS)
