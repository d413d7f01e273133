"""Documents with planted copies whose Jaccard index is known: random words, some of them replaced."""

from puna.data.document import documents, make_id


def random_words(rng, count, size=50_000):
    return [f"w{number}" for number in rng.integers(0, size, count)]


def replaced(rng, words, share):
    """The words with this share of them, at random places, replaced by words that stand nowhere else."""
    words = list(words)
    for place in rng.choice(len(words), round(share * len(words)), replace=False):
        words[place] = f"x{rng.integers(2**40)}"
    return words


def sets(text, size):
    words = text.lower().split()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def jaccard(a, b, size=5):
    a, b = sets(a, size), sets(b, size)
    return len(a & b) / max(len(a | b), 1)


def containment(a, b, size=3):
    """The share of a's runs of words that b has."""
    a, b = sets(a, size), sets(b, size)
    return len(a & b) / max(len(a), 1)


def table(texts, dates=None, urls=None):
    """Documents of these texts; the id of number i is that of its number."""
    rows = [
        {
            "id": make_id("planted", str(number)),
            "source": "planted",
            "url": urls[number] if urls else "",
            "date": dates[number] if dates else "",
            "text": text,
        }
        for number, text in enumerate(texts)
    ]
    return documents(rows)


def pairs(rng, count, words=200, most=0.12):
    """(texts, [(number, number of its copy, Jaccard index)]): each original and one copy of it."""
    texts, planted = [], []
    for _ in range(count):
        original = random_words(rng, words)
        copy = replaced(rng, original, rng.uniform(0, most))
        a, b = " ".join(original), " ".join(copy)
        planted.append((len(texts), len(texts) + 1, jaccard(a, b)))
        texts += [a, b]
    return texts, planted
