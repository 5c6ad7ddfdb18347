"""One process that owns the model, and HTTP processes that ask it: both ends of what they say (docs/decisions/0016)."""

from __future__ import annotations

#: The variable in which the supervisor tells HTTP processes the path of the model's socket.
ADDRESS = "FORETELL_MODEL_ADDRESS"
