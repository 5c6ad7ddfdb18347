"""The loaded model behind queues: what requests ask for meets in batches here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import jobs
from app.agreement import verify_reach, verify_signatures, verify_tables
from app.batching import Batcher, everyone
from app.catalogue import ItemContent
from app.errors import StartupError
from app.metrics import Metrics
from app.priority import behind
from app.runtime.device import choose_device, share_cores
from app.runtime.functions import Functions
from app.runtime.index import Index
from app.runtime.nearby import Nearby
from app.seats import Holder, Seating, Seats
from app.selection import Allowed, masks
from app.settings import Settings
from models.artifact import Artifact
from models.contract import UNKNOWN
from models.encode import Arrays, Moment, encode_items
from models.golden import GoldenError, replay
from models.vocabulary import Ids

#: Candidates of one request that are scored at once; a longer list takes turns with the other requests.
TURN = 1024
#: Seconds that a batch waits for those who would fill the next compiled size; docs/performance.md tells why.
PATIENCE = 0.01
#: Explanations that may wait; each takes tens of milliseconds, so more would not be there in time.
EXPLANATIONS = 32


class Runtime:
    """A loaded, verified and warm model; implements :class:`app.model.Model`.

    TensorFlow runs on one thread of its own, which stands back behind the event loop (:mod:`app.priority`), so calls
    never block the loop and never meet each other.
    Explanations have another, one at a time, so that nobody's prediction waits for them.
    """

    def __init__(
        self,
        artifact: Artifact,
        functions: Functions,
        nearby: Nearby | None,
        device: str,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self.artifact = artifact
        self.device = device
        self._functions = functions
        self._nearby = nearby
        self._contract = artifact.contract
        self.places = artifact.contract.items + settings.newcomers
        self._executor = behind("tensorflow", settings.model_niceness)
        common: dict[str, Any] = {"max_batch": settings.max_batch, "queue_limit": settings.queue_limit}
        self._encode = Batcher(
            "encode",
            self._run_encode,
            self._executor,
            metrics,
            fill=functions.fill("encode"),
            **common | {"max_batch": functions.most("encode")},
        )
        self._recommend = Batcher(
            "recommend",
            self._run_recommend,
            self._executor,
            metrics,
            # To read the whole of an index once more costs more than any padding.
            fill=functions.fill("retrieve") if nearby is None else everyone,
            patience=PATIENCE if settings.xla else 0.0,
            **common,
        )
        rows = max(TURN, settings.max_batch * settings.candidates)
        self._score = Batcher(
            "score",
            self._run_score,
            self._executor,
            metrics,
            width=lambda job: len(job.candidates),
            max_rows=rows,
            **common,
        )
        self._explaining = behind("explain", settings.model_niceness)
        self._explain = Batcher(
            "explain", self._run_explain, self._explaining, metrics, max_batch=1, queue_limit=EXPLANATIONS
        )
        # A seat for each guest that a batch can have, and one for each of an explanation.
        self._explain_seats = self.places + rows
        functions.grow(settings.newcomers + rows + TURN)
        self.seating = Seating(artifact.contract.items, settings.newcomers, self.seat)
        self.time = self._recommend.time

    @classmethod
    def load(cls, artifact: Artifact, settings: Settings, metrics: Metrics) -> Runtime:
        """Load an artifact onto the configured device; takes seconds, call it off the event loop.

        Raises:
            StartupError: a setting asks for more than the model retrieves, no such device, a signature that is not the
                contract's, or a golden example that differs.
        """
        verify_reach(settings, artifact.contract)
        share_cores(settings.workers)
        device = choose_device(settings.device)
        try:
            module = tf.saved_model.load(str(artifact.saved_model))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise StartupError(
                f"TensorFlow cannot load {artifact.saved_model}: {str(error).splitlines()[0]}"
            ) from error
        verify_signatures(module, artifact.contract)
        verify_tables(module, device, settings.xla)
        contract, nearby = artifact.contract, None
        places = contract.items + settings.newcomers
        indexed = "query" in module.signatures and settings.indexes(contract.items)
        functions = Functions(
            module, contract, settings.candidates, settings.max_batch, places, xla=settings.xla, indexed=indexed
        )
        if indexed:
            nearby = Nearby(Index(functions.vectors(contract.items)), functions, places)
        runtime = cls(artifact, functions, nearby, device, settings, metrics)
        functions.warm_up()
        try:
            replay(artifact.golden(), artifact.contract, artifact.vocabulary, functions.by_signature())
        except GoldenError as error:
            raise StartupError(f"{artifact.path}: {error}") from error
        return runtime

    def close(self) -> None:
        """Let what runs end and stop the threads."""
        for executor in (self._executor, self._explaining):
            executor.shutdown(wait=True, cancel_futures=True)

    def check(self) -> None:
        """It is here: see :meth:`app.model.Model.check`."""

    def admit(self, deadline: float) -> None:
        """See :meth:`app.model.Model.admit`."""
        self._recommend.admit(deadline)

    def admitted(self, deadline: float) -> AbstractContextManager[None]:
        """See :meth:`app.model.Model.admitted`."""
        return self._recommend.admitted(deadline)

    async def encode(self, arrays: Arrays, *, deadline: float) -> NDArray[Any]:
        """The state, shape [L, width], of one user's inputs, each of shape [L]."""
        return await self._encode.submit(arrays, deadline=deadline)

    async def recommend(
        self,
        state: NDArray[Any],
        length: int,
        moment: Moment,
        allowed: Allowed,
        count: int,
        *,
        deadline: float,
    ) -> tuple[Ids, dict[str, NDArray[Any]]]:
        """The best allowed items for a state, best first, and their outcomes; see :meth:`app.model.Model.recommend`."""
        job = jobs.Recommend(state, length, moment, allowed, count)
        return await self._recommend.submit(job, deadline=deadline)

    async def score(
        self,
        state: NDArray[Any],
        length: int,
        moment: Moment,
        candidates: Ids,
        newcomers: Sequence[ItemContent] = (),
        *,
        deadline: float,
    ) -> dict[str, NDArray[Any]]:
        """For each target its probability, for each value its expectation, of C candidates: each of shape [C].

        Candidates are internal ids; ``places`` + i stands for ``newcomers[i]``, judged by its content.
        """
        turns = [
            await self._score.submit(
                jobs.Score(state, length, moment, candidates[start : start + TURN], newcomers), deadline=deadline
            )
            for start in range(0, max(1, len(candidates)), TURN)
        ]
        return {name: np.concatenate([turn[name] for turn in turns]) for name in turns[0]}

    def seats(self) -> Seats:
        """See :meth:`app.model.Model.seats`."""
        return Holder(self.seating)

    async def seat(self, seats: Sequence[int], contents: Sequence[ItemContent]) -> None:
        """Write the contents of newcomers into the rows of their seats."""
        loop = asyncio.get_running_loop()
        for first, run in jobs.runs(seats):
            await loop.run_in_executor(self._executor, self._seat, [contents[i] for i in run], first)

    @property
    def explains(self) -> bool:
        """Whether the artifact can explain itself; one that was exported before there was such a thing cannot."""
        return "explain" in self._functions

    async def explain(
        self,
        arrays: Arrays,
        length: int,
        moment: Moment,
        candidates: Ids,
        newcomers: Sequence[ItemContent] = (),
        *,
        deadline: float,
    ) -> Arrays:
        """What moved the predictions of at most TURN candidates; see :meth:`app.model.Model.explain`."""
        job = jobs.Explain(arrays, length, moment, candidates, newcomers)
        return await self._explain.submit(job, deadline=deadline)

    # What runs on the TensorFlow threads.

    def _run_encode(self, batch: Sequence[Arrays]) -> list[NDArray[Any]]:
        inputs = {name: np.stack([job[name] for job in batch]) for name in batch[0]}
        return list(self._functions("encode", inputs)["state"])

    def _run_recommend(self, batch: Sequence[jobs.Recommend]) -> list[tuple[Ids, Arrays]]:
        found = [None] * len(batch) if self._nearby is None else self._nearby.recommend(batch)
        left = [job for job, share in zip(batch, found, strict=True) if share is None]
        whole = iter(self._recommend_whole(left) if left else ())
        return [next(whole) if share is None else share for share in found]

    def _recommend_whole(self, batch: Sequence[jobs.Recommend]) -> list[tuple[Ids, Arrays]]:
        """By the scores of the whole catalogue."""
        inputs = {**jobs.stacked(batch), "allowed": masks([job.allowed for job in batch])}
        found = self._functions.recommend(inputs, max(job.wanted for job in batch))
        return jobs.shares(found, batch)

    def _run_score(self, batch: Sequence[jobs.Score]) -> list[Arrays]:
        candidates, guests = jobs.seated(batch, self.places, self.places)
        if guests:
            self._seat(guests, self.places)
        return jobs.unpadded(self._functions("score", {**jobs.stacked(batch), "candidates": candidates}), batch)

    def _run_explain(self, batch: Sequence[jobs.Explain]) -> list[Arrays]:
        candidates, guests = jobs.seated(batch, self.places, self._explain_seats)
        if guests:
            self._seat(guests, self._explain_seats)
        inputs = {name: np.stack([job.arrays[name] for job in batch]) for name in batch[0].arrays}
        found = self._functions("explain", inputs | jobs.asked(batch) | {"candidates": candidates})
        return [{name: part[row] for name, part in found.items()} for row in range(len(batch))]

    def _seat(self, guests: Sequence[ItemContent], first: int) -> None:
        """Write items into the tables' rows from ``first`` on, where they stay until another batch takes the seats.

        Nothing is kept: computing vectors takes about a millisecond, and so none is ever that of an older content.
        """
        rows = encode_items(
            [content.categories for content in guests],
            [content.price for content in guests],
            np.zeros(len(guests)),
            self.artifact.vocabulary,
            self._contract,
        )
        unknown = np.full(len(guests), UNKNOWN, np.int32)
        rows |= self._functions("embed_items", {"items": unknown, **rows})
        self._functions.seat(first, rows)
