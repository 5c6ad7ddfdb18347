"""Which approximate index retrieves best."""
