"""Keys and passwords that were published by mistake, mostly in code: masked and counted, or reason to drop.

A known prefix with the length that its issuer gives is enough; a value that is merely assigned to a name such
as `api_key` must also look random: letters, digits, and many bits of entropy per character.
"""

import math
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import re2

from puna.data.filters.masking import Span, masked
from puna.data.stage import Annotation, Gate, Verdict, first_reason

# Kinds by what their issuers document: how a key begins, of what and how long it is.
KNOWN = {
    "private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "AWS": rb"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    "Google": rb"\bAIza[A-Za-z0-9_-]{35}",
    "Google OAuth": rb"\bGOCSPX-[A-Za-z0-9_-]{28}",
    "GitHub": rb"\bgh[pousr]_[A-Za-z0-9]{36,251}\b|\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b",
    "GitLab": rb"\bglpat-[A-Za-z0-9_-]{20}",
    "Slack": rb"\bxox[abeoprs]-[A-Za-z0-9-]{20,250}",
    "Slack hook": rb"hooks\.slack\.com/services/T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{20,40}",
    "Stripe": rb"\b[rs]k_live_[A-Za-z0-9]{20,250}\b",
    "OpenAI": rb"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,200}T3BlbkFJ[A-Za-z0-9_-]{20,200}",
    "Anthropic": rb"\bsk-ant-[a-z0-9]{3,10}-[A-Za-z0-9_-]{80,120}",
    "Hugging Face": rb"\bhf_[A-Za-z]{34}\b",
    "npm": rb"\bnpm_[A-Za-z0-9]{36}\b",
    "PyPI": rb"\bpypi-AgE[A-Za-z0-9_-]{50,250}",
    "SendGrid": rb"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "Twilio": rb"\bSK[0-9a-f]{32}\b",
    "Azure storage": rb"AccountKey=[A-Za-z0-9+/]{86}==",
    "web token": rb"\beyJ[A-Za-z0-9_-]{10,1000}\.eyJ[A-Za-z0-9_-]{10,1000}\.[A-Za-z0-9_-]{20,1000}",
}
NAMES = rb"(?i)(?:api_?key|secret|token|passwd|password|access_?key|auth_?key)[a-z_]{0,12}"
NAMED = NAMES + rb"[\"']? ?(?:=|:|=>|:=) ?"
ASSIGNED = NAMED + rb"[\"']([A-Za-z0-9+/_=.~-]{16,200})[\"']"
END = re2.compile(rb"-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")
LONGEST_KEY = 20_000  # bytes from BEGIN to END of a private key; RSA of 16,384 bits needs 13,000
_LARGE = re2.Options()
_LARGE.max_mem = 64 << 20  # with its 8 MB, keys that do not end made it slow, and a line on stderr for each
_LARGE.log_errors = False
PREFIXES = re2.compile(b"|".join(f"(?:{form.decode()})".encode() for form in KNOWN.values()), _LARGE)
VALUES = re2.compile(ASSIGNED)
HINT = (
    r"PRIVATE KEY|A[KS]IA[A-Z2-7]|AIza|GOCSPX-|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|hooks\.slack"
    r"|[rs]k_live_|sk-|hf_[A-Za-z]{9}|npm_[A-Za-z0-9]{9}|pypi-AgE|SG\.|SK[0-9a-f]{9}|AccountKey=|eyJ"
)


def entropy(value: bytes) -> float:
    """Bits per character, from how often each occurs."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def known_keys(text: bytes) -> Iterator[Span]:
    """Keys that say by their form what they are; a private key to its end."""
    at = 0
    while match := PREFIXES.search(text, at):
        start, at = match.span()
        if text[start:at].startswith(b"-----BEGIN"):
            end = END.search(text, at, min(len(text), at + LONGEST_KEY))
            body = text[at : end.start()] if end else b""
            if len(body.strip()) < 40:  # a heading without a key: documentation
                continue
            at = end.end()
        elif len(set(text[start + 4 : at])) < 8:  # AKIAXXXXXXXXXXXXXXXX: a pattern, not a key
            continue
        yield start, at


class Secrets(Annotation):
    """Masks keys and counts them as `pii.key`."""

    name = "secrets.mask"
    writes = {"pii.key": pa.int32()}

    placeholder: str = "[KEY]"
    assigned: bool = True  # also what is assigned to a name such as api_key
    least_entropy: float = (
        3.5  # bits per character of such a value; our own: 12 different ones of 16 have 3.5
    )

    def __call__(self, table: pa.Table) -> pa.Table:
        texts, counts = masked(table["text"], HINT, known_keys, self.placeholder)
        if self.assigned:
            texts, more = masked(
                texts, NAMED.decode() + r"[\"'][A-Za-z0-9]", self._assigned, self.placeholder
            )
            counts = counts + more
        table = table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), texts)
        return table.append_column("pii.key", pa.array(counts, pa.int32()))

    def _assigned(self, text: bytes) -> Iterator[Span]:
        for match in VALUES.finditer(text):
            value = match.group(1)
            mixed = any(c in b"0123456789" for c in value) and any(chr(c).isalpha() for c in value)
            if mixed and entropy(value) >= self.least_entropy:
                yield match.span(1)


class SecretsGate(Gate):
    """Drops documents with more keys than a slip of the pen: dumps, leaks."""

    name = "secrets.gate"
    reads = ("pii.key",)
    reasons = ("secrets.keys",)

    most: int = 5

    def __call__(self, table: pa.Table) -> Verdict:
        keys = table["pii.key"].to_numpy()
        return first_reason(len(table), [(keys > self.most, 0, keys)])
