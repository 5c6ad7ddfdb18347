"""Builds the image for real, starts it against the embedded stores, and asks it for a prediction. `make image-check`.

For machines without Docker: Linux, as root, with `apt-get install debootstrap buildah`. It takes some minutes and about
4 GB of disk the first time; the base image and the layers are kept for the next time (`make image-clean` removes them).
What it shows: the Dockerfile builds; the packages of the lock file are enough; the demo image fills a MongoDB; the
service in the image becomes ready, predicts for a user with history, does not run as root, writes nothing outside /tmp,
passes its own health check and stops on SIGTERM. What it does not: Docker's own builder, and the official base image.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from base import make_base
from buildah import Buildah, CheckError
from pip_access import pip_options
from service import Service, seed

from foretell.embedded import EmbeddedStores

ROOT = Path(__file__).parents[2]
BASE, SERVICE, DEMO = (f"localhost/foretell-check:{name}" for name in ("base", "service", "demo"))


def main() -> int:
    """Run the check; 0 when everything held, 1 with one sentence when something did not, 2 when it cannot run here."""
    parser = argparse.ArgumentParser(description="Build the image with buildah, start it and predict once.")
    parser.add_argument("--clean", action="store_true", help="remove what earlier checks have kept, and stop")
    parser.add_argument("--storage", type=Path, default=Path("/var/lib/foretell-image-check"), help="[%(default)s]")
    options = parser.parse_args()
    missing = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        needs = f"; missing: {', '.join(missing)}" if missing else ""
        print(f"make image-check runs as root and needs `apt-get install buildah debootstrap`{needs}.", file=sys.stderr)
        return 2
    buildah = Buildah(options.storage)
    try:
        if options.clean:
            buildah.remove_everything()
        else:
            build(buildah)
            start_and_predict(buildah)
    except CheckError as error:
        print(f"image-check failed: {error}", file=sys.stderr)
        return 1
    return 0


def build(buildah: Buildah) -> None:
    """Build both images on a stand-in for the base image; report times and sizes."""
    if not buildah.has(BASE):
        with timed("base image bootstrapped"):
            make_base(buildah, BASE, os.environ.get("DEBIAN_MIRROR"))
    with tempfile.TemporaryDirectory(prefix="foretell-build-") as folder:
        access = pip_options(Path(folder))
        for image in (SERVICE, DEMO):
            target = image.rpartition(":")[2]
            with timed(f"{target} image built"):
                buildah.build(ROOT, image, ["--target", target, "--build-arg", f"BASE_IMAGE={BASE}", *access])
    buildah.do("rmi", "--prune")  # layers that an earlier version of the project has left
    sizes = {image["names"][0]: image["size"] for image in buildah.images() if image.get("names")}
    for image in (BASE, SERVICE, DEMO):
        report(f"{image.rpartition(':')[2]} image", sizes[image])


def start_and_predict(buildah: Buildah) -> None:
    """Fill the stores by the demo image, then put the service image through a start, two predictions and a stop."""
    with tempfile.TemporaryDirectory(prefix="foretell-stores-") as folder, EmbeddedStores(folder) as stores:
        urls = {"FORETELL_MONGO_URL": stores.mongo_url, "FORETELL_REDIS_URL": stores.redis_url}
        with timed("demo data loaded by the demo image"):
            user = seed(buildah, DEMO, urls)
        with buildah.container(SERVICE) as container, Service(buildah, SERVICE, container, urls) as service:
            with timed("service ready"):
                service.wait_until_ready()
            report("service runs as user", service.user())
            report("service predicts", service.predict(user, state="computed"))
            report("service predicts again", service.predict(user, state="cached"))
            report("health check of the image", service.check_health())
            report("service stopped by SIGTERM", service.stop())
            report("files written outside /tmp", service.check_nothing_written())


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Report how long the block took."""
    start = time.perf_counter()
    yield
    report(what, f"{time.perf_counter() - start:.1f} s")


def report(what: str, found: object) -> None:
    """One line of the result, on stdout; everything else goes to stderr."""
    print(f"{what:<40} {found}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"image-check failed: `{error.cmd[0]}` ended with exit code {error.returncode}.")
