"""Files that start a training run on a cluster: a job of Slurm, of Kubernetes, or a script for Ray Train.

Each is one page (launchers/), filled in. All run the same command or the same two calls as a laptop does:
the layout of ranks is the recipe's, and a run that is stopped goes on from its last checkpoint.
"""

import json
import re
import shlex
from pathlib import Path

from pydantic import Field

from puna.errors import ConfigError, need
from puna.settings import Settings

FILES = {"slurm": "slurm.sh", "kubernetes": "kubernetes.yaml", "ray": "ray.txt"}


class Cluster(Settings):
    """What of a cluster the run takes."""

    nodes: int = Field(1, ge=1)
    gpus: int = Field(8, ge=0)  # of a node, a rank for each; 0: a rank a node on its CPU
    least: int | None = None  # Kubernetes: nodes that it goes on with when others are lost; None: all
    image: str = "IMAGE"  # Kubernetes: a container image that has Puna
    claim: str = "CLAIM"  # Kubernetes: the volume claim that holds shards and run


def launch_file(kind: str, recipe: Path, out: str, cluster: Cluster) -> str:
    """The text of the file; `recipe` and `out` as nodes see them, but Kubernetes takes the recipe's text."""
    need(kind in FILES, f"no launch file for {kind!r}", f"one of {', '.join(FILES)}", ConfigError)
    c, text = cluster, (Path(__file__).parent / "launchers" / FILES[kind]).read_text(encoding="utf-8")
    least = c.least or c.nodes
    problem = f"{least} nodes at least, but {c.nodes} in all"
    need(1 <= least <= c.nodes, problem, f"--least {c.nodes}", ConfigError)
    problem = "kubernetes: pods without GPUs are not foreseen"
    need(kind != "kubernetes" or c.gpus, problem, "--gpus-per-node 8", ConfigError)
    quoted = json.dumps if kind == "kubernetes" else shlex.quote  # a string of JSON is one of YAML and Python
    filled = {
        "RECIPE_TEXT": json.dumps(recipe.read_text(encoding="utf-8")) if kind == "kubernetes" else "",
        "RECIPE_JSON": json.dumps(str(recipe)),
        "RECIPE": quoted(str(recipe)),
        "OUT_JSON": json.dumps(out),
        "OUT": quoted(out),
        "NODES": str(c.nodes),
        "GPUS": str(c.gpus),
        "RANKS": str(c.gpus or 1),
        "LEAST": str(least),
        "IMAGE": json.dumps(c.image),
        "CLAIM": json.dumps(c.claim),
    }
    return re.sub("@([A-Z_]+)@", lambda place: filled[place[1]], text)
