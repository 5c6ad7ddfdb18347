"""A published model as one page for the person who decides whether to use it: see :func:`models.report.write.write`."""
