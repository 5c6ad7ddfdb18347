"""What the service needs of a model: a protocol, implemented by :class:`app.runtime.Runtime` in the same process, by
:class:`app.apart.remote.Remote` where another one has the model, and by the tests' fake."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from app.catalogue import ItemContent
from app.seats import Seats
from app.selection import Allowed
from models.artifact import Artifact
from models.encode import Arrays, Moment
from models.vocabulary import Ids


class Model(Protocol):
    """A loaded, verified and warm model.

    ``deadline`` is a time of the event loop. Each coroutine raises Overloaded when its queue is full and
    DeadlineExceeded when the deadline has passed before its work began.
    """

    artifact: Artifact
    device: str
    places: int  #: ids that there are rows for: of the vocabulary, and the seats of newcomers

    @property
    def explains(self) -> bool:
        """Whether the artifact has ``explain``; without it that method must not be called."""
        ...

    def check(self) -> None:
        """Raises ModelUnavailable where nothing can be asked of it now; then every other method does so, too."""
        ...

    def admit(self, deadline: float) -> None:
        """Raises Overloaded where there are too many requests inside already."""
        ...

    def admitted(self, deadline: float) -> AbstractContextManager[None]:
        """Around all that is done for a request, which is inside meanwhile. Raises Overloaded like :meth:`admit`."""
        ...

    async def encode(self, arrays: Arrays, *, deadline: float) -> NDArray[Any]:
        """The state, shape [L, width], of one user's inputs, each of shape [L]."""
        ...

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
        """At most ``count`` items of the catalogue, best guess first, shape [n], with outcomes as of :meth:`score`.

        Fewer come where few are allowed.
        """
        ...

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
        ...

    def seats(self) -> Seats:
        """The rows beyond the vocabulary's, in which newcomers to the catalogue sit to be recommended."""
        ...

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
        """What moved the log-odds of each target of C candidates (as for :meth:`score`), from one user's inputs [L].

        ``events`` [C, T, L], ``context`` [C, T, F], ``attributes`` [C, T, A] and ``base`` [C, T].
        """
        ...
