"""Other frameworks serving the same SavedModel. Each runs in an environment of its own, never in Foretell's."""
