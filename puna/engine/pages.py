"""Who holds which page of a runner's cache, and what was read already: a tree of pages.

A page that is full goes into the tree at once, where it is found by its ids and all that come before them:
the prompt of a running request already serves others. A request that ends leaves its pages there, the last,
partly filled one too, until room is needed: then the leaf whose last use is longest ago goes first. So the
next turn of a chat reads only what is new.

Every page is free, in the tree, or written by one request. No torch here: a page is a number.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Node:
    """A page of the tree. It is full, save for a leaf that an ended request left."""

    number: int
    ids: tuple[int, ...]
    parent: "Node | None"
    rooted: bool = True  # False: cut off; no request finds it any more
    readers: int = 0  # running requests that hold it; they hold its parents, too
    used: int = 0  # the clock when one of them last began or ended
    queued: bool = False  # among those that may make room
    children: "dict[tuple[int, ...], Node]" = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Hold:
    """The pages of one running request: first what it shares, then what only it writes."""

    ids: list[int]  # prompt and answer: the request's own list, which grows
    root: Node
    nodes: list[Node] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    length: int = 0  # positions that are read
    copied: Node | None = None  # where the beginning of its first own page comes from
    copy: tuple[int, int] | None = None  # pages (source, target): to be done before the next step

    @property
    def pages(self) -> list[int]:
        """Position p is in pages[p // size]."""
        return [node.number for node in self.nodes] + self.own


@dataclass(frozen=True)
class Account:
    """The numbers of all pages; together each is there once, else one is lost or has two owners."""

    free: list[int]
    kept: list[int]  # of ended requests, for whoever begins alike
    held: list[int]  # by running requests


class Pages:
    """`count` pages of `size` positions each."""

    def __init__(self, count: int, size: int):
        self.count, self.size = count, size
        self.roots = {0: Node(-1, (), None)}  # of each adapter: what was read with another is other numbers
        self.holds: set[Hold] = set()
        self._free = list(range(count))  # a heap: the lowest first, so that neighbours stay together
        self._kept = 0  # nodes of the tree that nobody reads
        self._leaves: list[tuple[int, int, Node]] = []  # a heap of (used, number, node); some are out of date
        self._clock = 0

    def available(self) -> int:
        """Pages that can be had: free ones, and those of ended requests."""
        return len(self._free) + self._kept

    def missing(self, ids: Sequence[int], most: int, adapter: int = 0) -> int:
        """How many pages are too few to `begin` these ids; 0 or less: it can be done."""
        found = self._find(ids, most, self._root(adapter))
        idle = sum(node.readers == 0 for node in found)  # they count as available, but will be held
        return -(-len(ids) // self.size) - len(found) - (self.available() - idle)

    def begin(self, ids: list[int], most: int, adapter: int = 0) -> Hold:
        """Hold what is known of the first `most` ids as this adapter reads them, and room for all of them.

        Nothing may be `missing`.

        The copy that the hold asks for comes before the next step; copies of several holds go in the order
        of their beginning, as a page copied from may be another's target.
        """
        root = self._root(adapter)
        hold = Hold(ids, root, self._find(ids, most, root))
        self._clock += 1
        for node in hold.nodes:
            self._refer(node)
        hold.length = len(hold.nodes) * self.size
        self.holds.add(hold)
        source, length = self._alike(hold, most)
        room = self.room(hold, len(ids))
        assert room, "what is missing is asked before"
        if source is not None:
            hold.copied, hold.length = source, hold.length + length
            if source.number != hold.own[0]:  # equal: it was evicted, and handed to us as it is
                hold.copy = source.number, hold.own[0]
        return hold

    def room(self, hold: Hold, positions: int) -> bool:
        """Make the pages enough for so many positions. False: there are too few, and nothing has changed."""
        new = -(-positions // self.size) - len(hold.nodes) - len(hold.own)
        if new > self.available():
            return False
        hold.own += sorted(self._take() for _ in range(new))  # neighbours are read faster
        return True

    def read(self, hold: Hold, count: int) -> None:
        """The next `count` ids are read: pages now full are there for all."""
        hold.length += count
        while (len(hold.nodes) + 1) * self.size <= hold.length:
            self._share(hold)

    def end(self, hold: Hold) -> None:
        """The request runs no more; what it read stays for others until room is needed."""
        self._clock += 1
        self._leave_rest(hold)
        self._release(hold)

    def forget(self, hold: Hold) -> None:
        """The request went wrong: nobody shall find what it read, wrote or took over.

        Nor what follows on it: whose fault bad numbers are cannot be seen. Who holds such pages now goes on;
        whoever copied from one and comes to harm forgets in turn.
        """
        if hold.nodes:
            self._cut(hold.nodes[0])
        if hold.copied is not None:
            self._cut(hold.copied)
        self._release(hold)

    def drop(self, adapter: int) -> None:
        """Nobody reads with this adapter any more: free what was read with it."""
        for node in tuple(self._root(adapter).children.values()):
            self._cut(node)
        del self.roots[adapter]

    def account(self) -> Account:
        """Count afresh where every page is."""
        shared = {node for hold in self.holds for node in hold.nodes}
        held = [node.number for node in shared] + [number for hold in self.holds for number in hold.own]
        kept, todo = [], [child for root in self.roots.values() for child in root.children.values()]
        while todo:
            node = todo.pop()
            kept += [] if node in shared else [node.number]
            todo += node.children.values()
        return Account(sorted(self._free), sorted(kept), sorted(held))

    def _root(self, adapter: int) -> Node:
        return self.roots.setdefault(adapter, Node(-1, (), None))

    def _find(self, ids: Sequence[int], most: int, root: Node) -> list[Node]:
        """The full pages that hold a beginning of the first `most` ids."""
        found, node = [], root
        for at in range(0, most - self.size + 1, self.size):
            child = node.children.get(tuple(ids[at : at + self.size]))
            if child is None:
                break
            found.append(node := child)
        return found

    def _alike(self, hold: Hold, most: int) -> tuple[Node | None, int]:
        """The page that begins most like what comes next, and how many of its positions are of use."""
        rest = hold.ids[hold.length : min(most, hold.length + self.size)]
        parent = hold.nodes[-1] if hold.nodes else hold.root
        lengths = {child: common(rest, child.ids) for child in parent.children.values()} if rest else {}
        source = max(lengths, key=lengths.__getitem__, default=None)
        if source is None or lengths[source] == 0:
            return None, 0
        source.used = self._clock
        return source, lengths[source]

    def _share(self, hold: Hold) -> None:
        """The first page that only this request writes is full: put it into the tree, or use its twin."""
        number, at = hold.own.pop(0), len(hold.nodes) * self.size
        ids = tuple(hold.ids[at : at + self.size])
        parent = hold.nodes[-1] if hold.nodes else hold.root
        node = parent.children.get(ids)
        if node is None:
            node = self._add(number, ids, parent)
        else:
            heapq.heappush(self._free, number)  # two have read the same at once
        self._refer(node)
        hold.nodes.append(node)

    def _leave_rest(self, hold: Hold) -> None:
        """Put the page that is partly filled into the tree, unless another one begins with all of it."""
        parent = hold.nodes[-1] if hold.nodes else hold.root
        ids = tuple(hold.ids[len(hold.nodes) * self.size : hold.length])
        if not ids or not parent.rooted:
            return
        for child in parent.children.values():
            if child.ids[: len(ids)] == ids:
                child.used = self._clock
                return
        self._queue(self._add(hold.own.pop(0), ids, parent))

    def _release(self, hold: Hold) -> None:
        self.holds.remove(hold)
        for number in hold.own:
            heapq.heappush(self._free, number)
        for node in reversed(hold.nodes):
            node.readers -= 1
            node.used = self._clock
            if node.readers == 0 and node.rooted:
                self._kept += 1
                self._queue(node)
            elif node.readers == 0:
                heapq.heappush(self._free, node.number)

    def _refer(self, node: Node) -> None:
        self._kept -= node.readers == 0 and node.rooted
        node.readers += 1
        node.used = self._clock

    def _add(self, number: int, ids: tuple[int, ...], parent: Node) -> Node:
        """A new page of the tree, below one that may be cut off; shorter leaves that it begins with go."""
        node = Node(number, ids, parent, rooted=parent.rooted, used=self._clock)
        if parent.rooted:
            for child in tuple(parent.children.values()):
                if len(child.ids) < self.size and ids[: len(child.ids)] == child.ids:
                    self._cut(child)
            parent.children[ids] = node
            self._kept += 1  # until someone refers to it
        return node

    def _cut(self, node: Node) -> None:
        """Take this page and all that follow on it out of the tree; those that nobody reads are free."""
        if not node.rooted:
            return
        parent = node.parent
        assert parent is not None, "the root is not a page"
        del parent.children[node.ids]
        if parent.readers == 0:
            self._queue(parent)
        todo = [node]
        while todo:
            node = todo.pop()
            todo += node.children.values()
            node.children, node.rooted = {}, False
            if node.readers == 0:
                self._kept -= 1
                heapq.heappush(self._free, node.number)

    def _queue(self, node: Node) -> None:
        """Remember a leaf that nobody reads among those that may make room."""
        if not node.queued and not node.children and node.parent is not None:
            node.queued = True
            heapq.heappush(self._leaves, (node.used, node.number, node))

    def _take(self) -> int:
        """A page to write to: the lowest free one, else that of the leaf whose last use is longest ago."""
        while not self._free:
            used, _, node = heapq.heappop(self._leaves)
            node.queued = False
            if not node.rooted or node.readers or node.children:
                continue
            if used < node.used:
                self._queue(node)
            else:
                self._cut(node)
        return heapq.heappop(self._free)


def cache_pages(context: int, bytes_per_page: int, free: int, page: int) -> int:
    """Pages enough for four contexts, within a quarter of `free` bytes (0: unknown); for one at least."""
    one = -(-context // page)
    return max(one, min(4 * one, free // 4 // bytes_per_page if free else 4 * one))


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with together."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
