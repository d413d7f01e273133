"""Blocks that stand in an article and are none of it: links to other articles, calls to subscribe, dates.

The words were chosen on one half of 181 article pages, where together they help; the other half judges them
(bench/extraction.py). Code is never looked at.
"""

import re

from puna.data.extract.blocks import Block

PROSE = 80  # characters; a block as long that ends a sentence ends a list of links to other articles
SHORT = 60  # a heading over such a list
CALL = 120  # a call to do something
TOP = 6  # blocks among which a date is a date line
_ENDS = (*'.!?…。！？:;,"”’', "'")

_OTHERS = re.compile(
    r"""(?:related(?:\s(?:articles?|stories|news|posts|content|topics|links|coverage|reading|videos?))?
    | more\s(?:stories|news|articles|posts|coverage|from\s.*|on\sthis\sstory|like\sthis|in\s.*)
    | (?:most|trending|popular)(?:\s(?:read|popular|viewed|recent|now|stories|posts|articles|categories))+
    | (?:leave\sa\s|add\sa\s|post\sa\s)?(?:comments?|reply)(?:\s\(?\d+\)?)?
    | \d+\s(?:comments|responses|replies)
    | explore\sfurther | read\s(?:next|more|also) | recommended(?:\sfor\syou|\sstories|\sreading)?
    | you\s(?:may|might)\s(?:also\s)?(?:like|enjoy|be\sinterested\sin)(?:\sthese)?.*
    | share\s(?:this|on|with|via).* | like\sthis\??.* | follow\sus.* | about\sthe\sauthor
    | tags | filed\sunder
    | categories | join\sthe\sconversation | what\sdo\syou\sthink.* | tell\sus\swhat\syou\sthink.*
    | subscribe.* | sign\sup.* | newsletter.* | advertisements?  | sponsored.* | polls?
    | (?:previous|next)(?:\spost|\sarticle)? | editors?[’']\s(?:picks|choice) | don[’']t\smiss
    | latest\s(?:news|stories|posts|articles|headlines) | around\sthe\sweb | from\sthe\sweb
    | ähnliche\sartikel | mehr\szum\sthema | das\skönnte\ssie\sauch\sinteressieren | kommentare
    | articles?\s(?:similaires|liés) | à?\s?lire\saussi | commentaires
    | artículos\srelacionados | comentarios | leggi\sanche | articoli\scorrelati | commenti
    | 関連記事 | スポンサー?ドリンク | コメント | 相关(?:文章|阅读|新闻)
    | похожие\s(?:статьи|записи) | комментарии | читайте\sтакже
    )[\s:.…!»>-]*""",
    re.IGNORECASE | re.VERBOSE,
)
_CALLS = re.compile(
    r"""advert(?:isement)?s? | sponsored(?:\scontent|\slinks?)? | continue\sreading(?:\sbelow)?
    | (?:story|article)\scontinues.* | read\s(?:more|also|next)\b.* | see\s(?:also|more)\b.*
    | also\s(?:read|see|on)\b.* | also:.* | click\shere\b.* | .*\bclick(?:ing)?\shere
    | skip\sto\s(?:main\s)?content.* | loading\s?\.*…? | filed\sunder:?.* | \d+\s(?:shares?|views|comments)
    | (?:re)?tweet | share | e?-?mail | print | facebook | twitter | pinterest | whatsapp | linkedin | reddit
    | copy\slink | follow\s(?:us|@).* | sign\sup\b.* | subscribe\b.* | updated\s(?:at\s|on\s|:).*
    | published(?:\son|:)?.* | posted\s(?:on|by|in)\b.* | last\s(?:updated|modified).*
    | .*\ball\srights\sreserved\.? | (?:©|copyright\b).* | image\s(?:credit|source|via)s?:?.*
    | photo(?:graph)?s?(?:\sby|\scredit|:).* | (?:getty\simages|reuters|ap\sphoto).{0,30}
    | (?:leggi\sanche|lire\saussi|lea\stambién|lesen\ssie\sauch).* | don[’']t\smiss | tags:.*
    | share\s(?:this|on).* | comments?""",
    re.IGNORECASE | re.VERBOSE,
)
_DATE = re.compile(
    r"""(?=.*\d).{0,12}(?:\d{4}-\d\d-\d\d
    | (?:\d{1,2}\.?\s)?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s?\d{0,2},?\s?(?:\d{4})?
    ).{0,30}""",
    re.IGNORECASE | re.VERBOSE,
)


def tidy(blocks: list[Block]) -> list[Block]:
    """The blocks that belong to the article."""
    kept: list[Block] = []
    among_links = False
    for place, block in enumerate(blocks):
        text, size = block.text, len(block.text)
        code = block.kind == "pre"
        among_links = among_links and not code and not (size >= PROSE and text.endswith(_ENDS))
        if not code and place and size <= SHORT and _OTHERS.fullmatch(text):
            among_links = True
        if among_links or (block.away and block.kind == "p") or (not code and size <= CALL and _CALLS.fullmatch(text)):
            continue
        if code or place >= TOP or size > SHORT or not _DATE.fullmatch(text):
            kept.append(block)
    return kept
