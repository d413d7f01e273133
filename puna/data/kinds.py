"""Every source and every stage that a recipe may name."""

from puna.data.classify.rank import Rank
from puna.data.classify.scores import Classify, Cut, ScoreEmbeddings
from puna.data.corpus import CorpusDivergence
from puna.data.decontaminate import BenchmarkOverlap, Decontaminate
from puna.data.dedup.exact import SameText
from puna.data.dedup.index import Index
from puna.data.dedup.lines import FrequentLines
from puna.data.dedup.near import NearCopies
from puna.data.dedup.semantic import SameMeaning
from puna.data.dedup.substrings import SharedPassages
from puna.data.dedup.urls import SameAddress
from puna.data.filters.c4 import C4, C4Lines
from puna.data.filters.coverage import CoverageGate, NgramCoverage, RepeatedLines
from puna.data.filters.fineweb import FineWeb
from puna.data.filters.gopher import GopherQuality, GopherRepetition
from puna.data.filters.language import LanguageGate, LanguageOf
from puna.data.filters.optout import OptOut
from puna.data.filters.outliers import Outliers, WordDivergence
from puna.data.filters.pii import Pii, PiiGate
from puna.data.filters.safety import SafetyScores, SafetyWords, SafetyWordsGate
from puna.data.filters.secrets import Secrets, SecretsGate
from puna.data.filters.urls import Hosts, UrlLists
from puna.data.filters.words import DirtyWords, DirtyWordsGate
from puna.data.mix import Copies, Mixing
from puna.data.sources.code import Code
from puna.data.sources.jsonl import Jsonl
from puna.data.sources.pages import Pages
from puna.data.sources.parquet import Parquet
from puna.data.sources.reading import Reading
from puna.data.sources.text import Text
from puna.data.sources.warc import Warc, Wet
from puna.data.stage import Stage
from puna.data.tokenize import CountTokens, TokenShards

SOURCES: dict[str, type[Reading]] = {
    "warc": Warc,
    "wet": Wet,
    "pages": Pages,
    "jsonl": Jsonl,
    "parquet": Parquet,
    "text": Text,
    "code": Code,
}
STAGES: dict[str, type[Stage]] = {
    stage.name: stage
    for stage in (
        Hosts, UrlLists, OptOut, LanguageOf, LanguageGate,
        GopherQuality, GopherRepetition, C4Lines, C4, FineWeb,
        NgramCoverage, CoverageGate, RepeatedLines, WordDivergence, CorpusDivergence, Outliers,
        DirtyWords, DirtyWordsGate,
        SafetyWords, SafetyWordsGate, SafetyScores, Pii, PiiGate, Secrets, SecretsGate,
        SameAddress, SameText, NearCopies, FrequentLines, SharedPassages, SameMeaning,
        Classify, ScoreEmbeddings, Rank, Cut, BenchmarkOverlap, Decontaminate, CountTokens, Copies, Mixing,
        TokenShards, Index,
    )
}  # fmt: skip
