"""How this machine's pip reaches its index, handed to pip inside a build without a trace in the image."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

#: The settings that say how to reach an index and whom to trust; no others travel.
ACCESS = {"index-url", "extra-index-url", "trusted-host", "cert", "proxy", "timeout", "default-timeout"}


def pip_options(folder: Path) -> list[str]:
    """Options for ``buildah bud``: pip's settings as a secret file in ``folder``, and the certificates they name.

    The certificates of SSL_CERT_FILE are used where pip's own configuration names none. Indexes that are folders of
    this machine are left out: a build sees only what is mounted.
    """
    settings = _settings()
    certificates = settings.get("cert", os.environ.get("SSL_CERT_FILE", ""))
    if certificates:
        settings["cert"] = certificates
    parser = RawConfigParser()
    parser["global"] = settings
    file = folder / "pip.conf"
    with file.open("w") as out:
        parser.write(out)
    mount = ["-v", f"{certificates}:{certificates}:ro"] if certificates else []
    return ["--secret", f"id=pip.conf,src={file}", *mount]


def _settings() -> dict[str, str]:
    """What ``pip config list`` tells, the environment's word last: it wins."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    settings: dict[str, str] = {}
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if name in ACCESS and section in {"global", "install", ":env:"}:
            remote = [word for word in ast.literal_eval(value).split() if not word.startswith("file:")]
            if remote:
                settings[name] = " ".join(remote)
    return settings
