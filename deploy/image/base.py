"""A stand-in for the official Python base image, made from Debian's own packages: nothing is pulled from a registry."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from buildah import Buildah, CheckError

#: Debian 12, as in python:3.12-slim-bookworm; its Python is 3.11.
SUITE = "bookworm"
PACKAGES = ["python3", "python3-venv", "ca-certificates"]
LEFT_OUT = ["./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*"]


def make_base(buildah: Buildah, image: str, mirror: str | None) -> None:
    """Bootstrap a minimal Debian with Python and import it as ``image``.

    Args:
        mirror: address of a Debian mirror; debootstrap's own choice where it is None.

    Raises:
        CheckError: debootstrap failed.
    """
    with tempfile.TemporaryDirectory(prefix="foretell-base-") as folder:
        root, archive = Path(folder, "root"), Path(folder, "root.tar")
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        words = ["debootstrap", *options, SUITE, str(root), *([mirror] if mirror else [])]
        if subprocess.run(words, stdout=sys.stderr, check=False).returncode != 0:
            raise CheckError(f"debootstrap could not make a minimal Debian {SUITE}; see above.")
        excludes = [f"--exclude={pattern}" for pattern in LEFT_OUT]
        subprocess.run(["tar", "-C", str(root), *excludes, "-cf", str(archive), "."], check=True)
        buildah.import_root(archive, image)
