"""Who stays when copies have copies: a document goes only for a better one that itself stays.

Verified pairs are edges from a document to a better one. Nobody goes by hearsay: where B goes for A, and C
was like B but not like A, C stays. So a document stays if none of its better copies does, and goes if one
does. Each round of the engine settles one more link of a chain: an edge is laid at both of its ends; the
better end learns from its own edges whether it stays, and the edge carries that to the other end. What is
unsettled after the last round stays.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.dedup.order import EARLIER, begins, decisions, id_key
from puna.data.stage import KEEP

UNKNOWN, STAYS, GOES = 0, 1, 2


def start(edges: pa.Table, shard: int = 0, side: pa.Table | None = None) -> pa.Table:
    """Each edge twice: at its member, which learns from it, and at its head, which tells it."""
    if "head_state" not in edges.column_names:
        edges = edges.append_column("head_state", pa.array(np.full(len(edges), UNKNOWN, np.int8)))
    return pa.concat_tables([_at(edges, "member"), _at(edges, "head")])


def _at(edges: pa.Table, end: str) -> pa.Table:
    edges = edges.select([name for name in edges.column_names if name not in ("key", "node", "upward")])
    upward = pa.array(np.full(len(edges), end == "member"))
    key = pa.array(id_key(edges[end]))
    return edges.append_column("key", key).append_column("node", edges[end]).append_column("upward", upward)


def end_at_member(edges: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
    """The edges to documents that stay, at their members."""
    return _at(edges.filter(pc.equal(edges["head_state"], STAYS)), "member")


def end_at_kept(edges: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
    return _at(edges, "head")


def settle(edges: pa.Table) -> pa.Table:
    """The edges at their heads' ends with what is now known of the head; those to one that goes are done."""
    edges = edges.sort_by([("key", "ascending"), ("node", "ascending")])
    node = np.cumsum(begins(edges, "node")) - 1
    upward = edges["upward"].to_numpy()
    states = np.zeros((node[-1] + 1 if len(node) else 0, 3), np.int64)  # of a node's better copies
    np.add.at(states, (node[upward], edges["head_state"].to_numpy()[upward]), 1)
    state = np.where(states[:, STAYS] > 0, GOES, np.where(states[:, UNKNOWN] > 0, UNKNOWN, STAYS))[node]
    at = edges.column_names.index("head_state")
    told = edges.set_column(at, "head_state", pa.array(state.astype(np.int8)))
    return told.filter(pa.array(~upward & (state != GOES)))


def choose(edges: pa.Table) -> pa.Table:
    """Of each document the one edge that it goes by: the highest score."""
    order = [("node", "ascending"), ("score", "descending"), ("head", "ascending")]
    edges = edges.sort_by(order)
    return edges.filter(pa.array(begins(edges, "node")))


def count(edges: pa.Table) -> pa.Table:
    """DECISIONS: every document that goes, and for the one that stays how many it now stands for."""
    edges = edges.sort_by([("node", "ascending"), ("member", "ascending")])
    new = begins(edges, "node")
    sizes = np.bincount(np.cumsum(new) - 1, minlength=0) + 1
    codes = pc.if_else(edges["template"], 1, 0)
    gone = decisions(edges["member_shard"], edges["member"], codes, edges["score"], edges["head"])
    kept = edges.filter(pa.array(new))
    codes = np.full(len(kept), KEEP)
    notes = decisions(kept["head_shard"], kept["head"], codes, sizes, kept["head"])
    return pa.concat_tables([gone, notes.filter(pc.not_equal(notes["shard"], EARLIER))])
