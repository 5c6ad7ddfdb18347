"""Builds and runs containers with buildah where there is no container engine: chroot isolation, as root.

Everything lives in a storage folder of its own, so that nobody else's images are touched and cleaning up is certain.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class CheckError(Exception):
    """The image does not do what it should. The message is one sentence."""


class Buildah:
    """One storage folder of images and containers."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage

    def command(self, *arguments: str) -> list[str]:
        """The whole command line of a buildah command."""
        return ["buildah", "--root", f"{self.storage}/images", "--runroot", f"{self.storage}/run", *arguments]

    def do(self, *arguments: str) -> str:
        """Run a command and return what it prints; its complaints pass through to stderr.

        Raises:
            CheckError: the command failed.
        """
        done = subprocess.run(self.command(*arguments), stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise CheckError(f"`buildah {arguments[0]}` failed with exit code {done.returncode}; see above.")
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether the image is in storage."""
        return image in {f"{i['names'][0]}" for i in self.images() if i.get("names")}

    def images(self) -> list[dict[str, Any]]:
        """What ``buildah images`` knows of every image."""
        return json.loads(self.do("images", "--json")) or []

    def import_root(self, tar: Path, image: str) -> None:
        """Make an image of one layer from an archive of a root file system."""
        container = self.do("from", "scratch")
        self.do("add", "--quiet", container, str(tar), "/")
        self.do("commit", "--quiet", "--rm", container, image)

    def build(self, context: Path, image: str, options: Sequence[str]) -> None:
        """Build the context's Dockerfile, keeping its layers. In Docker's format, for OCI's knows no HEALTHCHECK."""
        fixed = ["--isolation", "chroot", "--layers", "--force-rm", "--format", "docker"]
        # What it prints on stdout is progress, too.
        done = subprocess.run(
            self.command("bud", *fixed, *options, "--tag", image, str(context)), stdout=sys.stderr, check=False
        )
        if done.returncode != 0:
            raise CheckError(f"The image {image} could not be built; see above.")

    def configuration(self, image: str) -> dict[str, Any]:
        """What the image says of itself: Cmd, User, Env, Healthcheck..."""
        inspected = json.loads(self.do("inspect", "--type", "image", image))
        configuration = inspected["Docker"]["config"]
        assert isinstance(configuration, dict)
        return configuration

    @contextmanager
    def container(self, image: str) -> Iterator[str]:
        """A container made from the image; removed in the end."""
        name = self.do("from", image)
        try:
            yield name
        finally:
            self.do("rm", name)

    def run(self, container: str, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """The command line that runs words in the container, as the image's user and on this machine's network."""
        variables = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        return self.command("run", "--isolation", "chroot", *variables, container, "--", *words)

    @contextmanager
    def root(self, container: str) -> Iterator[Path]:
        """The container's root file system, to look at."""
        yield Path(self.do("mount", container))
        self.do("umount", container)

    def remove_everything(self) -> None:
        """Delete every container and image of this storage, and the folder."""
        if self.storage.exists():
            self.do("rm", "--all")
            self.do("rmi", "--all", "--force")
            # The overlay driver leaves its own folder bind-mounted on itself.
            subprocess.run(["umount", f"{self.storage}/images/overlay"], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(self.storage)
