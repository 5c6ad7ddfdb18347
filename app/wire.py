"""The atoms of the wire: texts, numbers and times with their bounds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, PlainValidator, StringConstraints, WithJsonSchema

#: Largest magnitude of a value, a price or an integer: it fits float32 and float64 alike.
LARGEST = 1e12


_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def _no_controls(text: str) -> str:
    if _CONTROLS.search(text):
        raise ValueError("must not contain control characters")
    return text


def _time(value: object) -> datetime:
    """An ISO 8601 time as a UTC datetime; a time without an offset is UTC."""
    if not isinstance(value, str):
        raise ValueError("must be an ISO 8601 time such as 2026-01-31T12:00:00Z")
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be an ISO 8601 time such as 2026-01-31T12:00:00Z") from None


def _this_century(time: datetime) -> datetime:
    if not 2000 <= time.year <= 2100:
        raise ValueError("must lie in the years 2000 to 2100")
    return time


def _scalar(value: object) -> bool | int | float | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not abs(value) <= LARGEST:  # also true for NaN
            raise ValueError("must be a finite number of at most 1e12")
        return value
    if isinstance(value, str):
        if len(value) > 256:
            raise ValueError("must have at most 256 characters")
        return _no_controls(value)
    raise ValueError("must be text, a number, true or false")


Id = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_no_controls)]
ShortId = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_no_controls)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_no_controls)]
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Scalar = Annotated[bool | int | float | str, PlainValidator(_scalar, json_schema_input_type=bool | int | float | str)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
AnyTime = Annotated[datetime, PlainValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})]
Time = Annotated[AnyTime, AfterValidator(_this_century)]
