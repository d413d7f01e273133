#!/bin/bash
# The whole run as one job on a Ray cluster: its driver hands out tasks, every node must reach the store. Start it
# with RAY_ADDRESS=http://HEAD:8265 bash THIS_FILE. After a failure start it again: what is done stays done.
set -euo pipefail
files=$(mktemp -d)
trap 'rm -r "$files"' EXIT
cp @RECIPE@ "$files/recipe.toml"
keys=$(python - <<'PYTHON'
import json, os
print(json.dumps({"env_vars": {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}}))
PYTHON
)
ray job submit --working-dir "$files" --runtime-env-json "$keys" -- \
  puna data run recipe.toml --out @OUT@ --runner ray --address auto
