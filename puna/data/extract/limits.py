"""Pages that would hold the parser up: told before, or right after, it reads them.

The parser does not recurse, but it compares each attribute of a tag with all before it, and the extractor
walks up from each element: 100,000 attributes take 18 s, 100,000 nested tags minutes. Within these limits
the worst page that we found takes 3 s.
"""

import re

from resiliparse.parse.html import HTMLTree

# A start tag as the standard reads it: quotes count only behind "=". Nothing in it can fail once it has
# begun, and nothing is read twice: linear in the page.
_TAG = re.compile(
    r"""<[A-Za-z][^\s/>]*+
    (?:[\s/]++ | (?:=[^\s/>=]*+ | [^\s/>=]++)
       (?:\s*+=\s*+(?:"[^"]*+"?+ | '[^']*+'?+ | [^\s>]*+))?+ )*+""",
    re.VERBOSE,
)
_GAP = re.compile(r"[\s/\"'][^\s/\"'=>]")  # where an attribute may begin


def attributes(html: str, most: int) -> bool:
    """Whether some tag may have more than `most` attributes."""
    long = (tag for tag in _TAG.findall(html) if len(tag) > 2 * most)
    return any(len(_GAP.findall(tag)) > most for tag in long)


def deep(tree: HTMLTree, most: int) -> bool:
    """Whether some element has as many as `most` above it; one native query, no recursion."""
    document = tree.document
    return document is not None and document.query_selector(">".join(["*"] * (most + 1))) is not None
