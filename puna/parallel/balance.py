"""Which chunks of a sequence a rank of context parallelism holds, so that all have the same work. No torch.

Under causal attention the end of a sequence looks at much and its beginning at little: of 2 x context chunks,
rank i holds number i and number i from the end [P 3.3.2].
"""

import numpy as np


def chunks(place: int, context: int) -> tuple[int, int]:
    """The two of 2 x context chunks that the rank at this place holds."""
    return place, 2 * context - 1 - place


def pairs(documents: np.ndarray, context: int) -> np.ndarray:
    """(context,) how many pairs of query and key each rank looks at, for rows (B, T) of numbered documents.

    Equal where a row is one document. Short documents make them uneven, but are little work in all.
    """
    place = np.arange(documents.shape[1])
    begins = np.diff(documents, axis=1, prepend=documents[:, :1] - 1) != 0
    seen = place + 1 - np.maximum.accumulate(np.where(begins, place, 0), axis=1)  # (B, T)
    each = seen.reshape(len(seen), 2 * context, -1).sum((0, 2))  # (2 * context,)
    return np.array([each[list(chunks(place, context))].sum() for place in range(context)])
