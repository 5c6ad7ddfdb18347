#!/usr/bin/env bash
# Resolves pyproject.toml into the lock files beside this script: exact versions and hashes, no index addresses.
# Needs `uv` on the PATH. Run through `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { # compile OUTPUT ARGUMENTS...: one lock file, held to dev.txt where that exists
  local out=$1; shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
    --no-header --custom-compile-command "make lock" "$@" --output-file "requirements/$out" >/dev/null
}
compile dev.txt  pyproject.toml --extra train --extra demo --group dev ${UPGRADE:+--upgrade}
compile demo.txt pyproject.toml --extra train --extra demo --group build --constraints requirements/dev.txt
compile serve.txt pyproject.toml --group build --constraints requirements/dev.txt
compile gpu.txt  pyproject.toml --extra gpu --group build --constraints requirements/dev.txt
# What `make bench-serving` compares with, each in an environment of its own.
for peer in fastapi litserve bentoml profile; do
  compile "../benchmarks/serving/requirements-$peer.txt" "benchmarks/serving/requirements-$peer.in"
done
