"""Speed of serving, measured: ``make bench-serving``. Everything here talks to the service as a client would."""
