"""`puna train launch RECIPE --on slurm | kubernetes | ray`: a file that starts a run on a cluster."""

from pathlib import Path
from typing import Literal


def launch(
    recipe: Path,
    *,
    on: Literal["slurm", "kubernetes", "ray"],
    out: str,
    nodes: int = 1,
    gpus_per_node: int = 8,
    least: int | None = None,
    image: str = "IMAGE",
    claim: str = "CLAIM",
) -> int:
    """Print a file that starts a run on a cluster; how it is used stands at its top.

    Parameters
    ----------
    recipe
        The recipe, a TOML file.
    on
        The cluster's scheduler.
    out
        The folder of the run, that every node sees; pods see the volume of the claim as /work.
    nodes
        How many machines.
    gpus_per_node
        A rank for each; 0: a rank a node, on its CPU.
    least
        For Kubernetes: go on with so many nodes when others are lost.
    image
        For Kubernetes: the container image that has Puna.
    claim
        For Kubernetes: the volume claim that holds the shards and the run.
    """
    from puna.train.launch import Cluster, launch_file
    from puna.train.recipe import read_recipe

    read_recipe(recipe)  # a mistake in it is better found here than on a cluster
    seen = recipe if on == "kubernetes" else recipe.resolve()
    cluster = Cluster.read(
        {"nodes": nodes, "gpus": gpus_per_node, "least": least, "image": image, "claim": claim},
        "puna train launch",
    )
    print(launch_file(on, seen, out, cluster), end="")
    return 0
