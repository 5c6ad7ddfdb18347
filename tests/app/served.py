"""Run as a program: ``foretell serve`` over fakes. Arguments: the folder of the models, the port; the rest of the
settings come from the environment."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import app.main
from app.settings import Settings
from foretell.commands.serve import run
from models.artifact import open_artifact
from tests.app.conftest import House
from tests.app.fakes import FakeRuntime

if __name__ == "__main__":
    root = Path(sys.argv[1])
    settings = Settings(model_root=root, port=int(sys.argv[2]), xla=False)
    house = House(FakeRuntime(open_artifact(root, "storefront")), settings)
    app.main.create_app = partial(app.main.create_app, open_state=house.open)
    sys.exit(run(settings))
