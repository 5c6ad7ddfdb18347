"""Every setting of the service: one class, read from ``FORETELL_*`` environment variables.

``settings_table()`` renders what the README shows, so that the two cannot differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from limits import parse
from pydantic import AfterValidator, Field, FilePath, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "FORETELL_"

Text = Annotated[str, StringConstraints(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=16)]


def _rate(text: str) -> str:
    """Raises ValueError where ``limits`` cannot read it."""
    parse(text)
    return text


Rate = Annotated[str, AfterValidator(_rate)]


class SettingsError(Exception):
    """Settings that cannot be used; ``problems`` holds one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """What the service can be told: each field is the variable FORETELL_ + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, protected_namespaces=())

    host: Text = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(default=1, ge=1, le=64, description="Server processes.")
    mongo_url: str = Field(
        default="mongodb://127.0.0.1:27017",
        pattern=r"^mongodb(\+srv)?://.",
        description="MongoDB: events, items and users.",
    )
    mongo_database: str = Field(
        default="foretell", pattern=r"^[A-Za-z0-9_-]{1,63}$", description="Database in MongoDB."
    )
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        pattern=r"^(rediss?|unix)://.",
        description="Redis: the cache of user states.",
    )
    model_root: Path = Field(default=Path("models/saved"), description="Folder that holds the models.")
    model_name: str = Field(
        default="storefront", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Model to serve."
    )
    model_version: str = Field(
        default="latest", pattern=r"^(latest|[1-9][0-9]*)$", description="Version to serve: a number, or `latest`."
    )
    device: Literal["auto", "gpu", "cpu"] = Field(
        default="auto", description="Where the model runs: `gpu`, `cpu`, or `auto` (the GPU where there is one)."
    )
    model_process: Literal["auto", "inside", "apart"] = Field(
        default="auto",
        description="With several workers: each has the model (`inside`), or all ask one process (`apart`); `auto` is "
        "`apart` where there is a GPU.",
    )
    state_ttl_seconds: int = Field(
        default=3600, ge=1, le=30 * 86400, description="How long a user's state stays cached."
    )
    redis_timeout_ms: int = Field(
        default=250,
        ge=1,
        le=60_000,
        description="Longest wait for an answer of Redis, retry included, before going on without.",
    )
    mongo_timeout_ms: int = Field(
        default=1000,
        ge=1,
        le=60_000,
        description="Longest wait for an answer of MongoDB, retry included, before going on without.",
    )
    deadline_ms: int = Field(default=2000, ge=1, le=600_000, description="A request past this age is answered 504.")
    candidates: int = Field(
        default=100, ge=1, le=10_000, description="Retrieved items that are scored for each request."
    )
    index_from: int = Field(
        default=50_000,
        ge=0,
        description="Items from which an approximate index retrieves, not the score of each; 0 never uses it.",
    )
    newcomers: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="New items of the catalogue that can be recommended before the model is trained again.",
    )
    max_batch: int = Field(default=32, ge=1, le=4096, description="Most requests computed together by the model.")
    xla: bool = Field(
        default=True,
        description="Compile the model with XLA: small batches get faster, a model's first start takes longer.",
    )
    model_niceness: int = Field(
        default=15,
        ge=0,
        le=19,
        description="How far the model's threads stand back behind the event loop where processors are short (Linux).",
    )
    queue_limit: int = Field(
        default=1024, ge=1, le=1_000_000, description="Requests that may wait for the model; more get 503."
    )
    queue_ms: int = Field(
        default=250,
        ge=1,
        le=600_000,
        description="Longest wait to expect for the model, half of it in a lasting overload; more gets 503.",
    )
    body_limit_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1024, le=1 << 30, description="Longest request body; more gets 413."
    )
    receive_seconds: float = Field(
        default=10.0, gt=0, le=600, description="Longest time a client may take to send a request; then 408."
    )
    ingest_limit: int = Field(
        default=20_000, ge=1, le=10_000_000, description="Events on their way to MongoDB at once; more get 503."
    )
    max_items: int = Field(default=10_000, ge=1, le=10_000, description="Most `items` in one request.")
    max_k: int = Field(default=200, ge=1, le=10_000, description="Most recommendations in one answer.")
    catalogue_refresh_seconds: float = Field(
        default=30.0, gt=0, le=86400, description="How often the catalogue is read again from MongoDB."
    )
    startup_seconds: float = Field(
        15.0, ge=0, le=600, description="How long the start waits for a store that does not answer yet."
    )
    drain_seconds: float = Field(
        default=1.0,
        ge=0,
        le=600,
        description="After SIGTERM, how long `/health/ready` says 503 before the port closes; give balancers a probe.",
    )
    shutdown_seconds: int = Field(
        default=10, ge=0, le=600, description="Time running requests get to finish at shutdown."
    )
    keys: Path | None = Field(
        default=None, description="File of API keys (`foretell keys new`); without it only this machine is served."
    )
    insecure: bool = Field(
        default=False, description="Without keys, listen on any address all the same: others keep strangers out."
    )
    key_limit: Rate = Field(default="6000/minute", description="Most requests of one key, over all processes.")
    refusal_limit: Rate = Field(
        default="20/minute", description="Refused keys that one address is told so; from then on it gets 429."
    )
    json_depth: int = Field(default=16, ge=6, le=200, description="Deepest nesting of a JSON body; more gets 422.")
    cors_origins: str = Field(
        default="", description="Origins whose pages may call the service, with commas between; none, if empty."
    )
    tls_cert: FilePath | None = Field(default=None, description="Certificate chain (PEM) to serve HTTPS with.")
    tls_key: FilePath | None = Field(default=None, description="Private key (PEM) of that certificate.")
    ops_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of its own for `/metrics` and `/health`."
    )
    retention_days: int = Field(
        default=0, ge=0, le=36500, description="Days until an event is deleted; 0 keeps events until they are erased."
    )
    pseudonym_key: Secret | None = Field(
        default=None, description="Secret that turns user ids into pseudonyms before anything is stored or cached."
    )
    log_secret: Secret | None = Field(
        default=None, description="Secret of the pseudonyms in the log; without it each process draws its own."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line shown."
    )
    log_json: bool = Field(default=False, description="Log JSON lines instead of text.")

    @model_validator(mode="after")
    def _stores_fit_in_the_deadline(self) -> Self:
        """A lost store has to be noticed in time to answer without it."""
        if self.redis_timeout_ms + self.mongo_timeout_ms >= self.deadline_ms:
            raise ValueError(
                f"{PREFIX}DEADLINE_MS cannot be used: it must be longer than {PREFIX}REDIS_TIMEOUT_MS and "
                f"{PREFIX}MONGO_TIMEOUT_MS together, or no time is left to answer without a lost store."
            )
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"{PREFIX}TLS_CERT and {PREFIX}TLS_KEY belong together; set both or neither.")
        return self

    def indexes(self, items: int) -> bool:
        """Whether an index retrieves from a catalogue of so many items, where the model allows it."""
        return 0 < self.index_from <= items

    @property
    def origins(self) -> list[str]:
        """``cors_origins`` as a list."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; an override that is not None wins over it.

    Raises:
        SettingsError: one sentence for each setting that cannot be used.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError([_problem(e["loc"], e["msg"], e["input"]) for e in error.errors()]) from error


def likely_typos(environment: Mapping[str, str]) -> list[str]:
    """One sentence for each variable that looks like a setting, but is none (``FORETELL_PROT``)."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    strays = [name for name in sorted(environment) if name.upper().startswith(PREFIX)]
    return [
        f"{name} is set, but no setting has this name; did you mean {close}?"
        for name in strays
        if name.upper() not in known
        for close in difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85)
    ]


def settings_table() -> str:
    """The settings as a Markdown table: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{PREFIX}{name.upper()}` | `{_default(field.default)}` | {field.description} |")
    return "\n".join(rows) + "\n"


def _default(value: object) -> str:
    if value is None or value == "":
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problem(location: tuple[int | str, ...], message: str, value: object) -> str:
    if not location:  # a rule about several settings
        return message.removeprefix("Value error, ")
    name = PREFIX + str(location[0]).upper()
    hidden = name.endswith(("_URL", "_SECRET", "_PSEUDONYM_KEY"))  # a URL may hold a password
    shown = "" if hidden else f" (it is {str(value)[:60]!r})"
    return f"{name} cannot be used: {message[0].lower()}{message[1:]}{shown}."
