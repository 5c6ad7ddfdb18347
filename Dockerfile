# The image of the service, and of the one-shot that loads the demo data.
#
#   docker build --build-arg ACCELERATOR=cpu --target service .     # or ACCELERATOR=gpu: brings the CUDA libraries
#   docker build --target demo .
#
# A package index that needs an address or a certificate: --secret id=pip.conf,src=FILE. It is mounted while packages
# are installed and leaves no trace in the image. Tested without Docker by `make image-check`; see docs/deployment.md.

# Any image with Python 3.11 to 3.13 and its venv module.
ARG BASE_IMAGE=python:3.12-slim-bookworm


# What changes seldom and is large: the pinned packages, in a virtual environment. Every one of them is a wheel, so no
# compiler comes in that would have to be left behind, and later stages share this layer instead of copying gigabytes.
# Byte code is written here, once, so that containers can run on a read-only root file system.
# TensorFlow's C++ headers (430 MB) serve nobody here.
FROM ${BASE_IMAGE} AS packages
ARG ACCELERATOR=cpu
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
COPY requirements/serve.txt requirements/gpu.txt /lock/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=cache,target=/pip-cache \
    case $ACCELERATOR in \
      cpu) lock=serve.txt ;; \
      gpu) lock=gpu.txt ;; \
      *) echo "ACCELERATOR is '$ACCELERATOR'; it can be cpu or gpu." >&2; exit 1 ;; \
    esac \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin foretell \
    && python3 -m venv /opt/venv \
    && pip install --cache-dir /pip-cache --require-hashes -r /lock/$lock \
    && rm -rf /opt/venv/lib/python3*/site-packages/tensorflow/include


# What changes often and is small: the project, as a wheel built by the pinned build tool, and the models.
FROM packages AS project
WORKDIR /source
COPY pyproject.toml README.md ./
COPY app app
COPY foretell foretell
COPY models models
COPY deploy/image/health.py /srv/foretell/
COPY models/saved /srv/foretell/models
# Readable by the service's user whatever the modes in the checkout, and not writable by it.
RUN pip wheel --no-cache-dir --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
    && chmod -R a+rX,go-w /srv/foretell \
    && mkdir /keys


FROM packages AS service
ENV FORETELL_HOST=0.0.0.0 \
    FORETELL_PORT=8000 \
    FORETELL_MODEL_ROOT=/srv/foretell/models
COPY --from=project /wheels /wheels
RUN pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
COPY --from=project /srv/foretell /srv/foretell
# Where a volume of keys goes: a new one takes the owner from here.
COPY --from=project --chown=10001:10001 /keys /srv/foretell/keys
WORKDIR /srv/foretell
# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# start-period covers loading and warming up the model; until then a failure does not count.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "/srv/foretell/health.py"]
CMD ["foretell", "serve"]


# On top of the packages, those that make and load the simulated shop. Not for production.
FROM packages AS demo-packages
COPY requirements/demo.txt /lock/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=cache,target=/pip-cache \
    pip install --cache-dir /pip-cache --require-hashes -r /lock/demo.txt


FROM demo-packages AS demo
COPY --from=project /wheels /wheels
RUN pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
USER 10001:10001
CMD ["foretell", "demo", "--load-only"]
