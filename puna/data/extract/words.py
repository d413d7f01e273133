"""What names say: how elements nest, where class names put them on a page, and lines that are no article.

Lists of class words hold parts of names in lower case, "_" standing for whatever is no letter or digit, and
for either end. They were chosen on one half of 181 article pages, and the other half judges them
(bench/extraction.py). Both twins read these lists.
"""


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _listed(words: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in words.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip("\n") for phrase in text.split("|"))


ATTRIBUTES = _tags("class id role style hidden type alt src href name content display alttext")
VOID = _tags(
    """area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr"""
)
RAW = _tags(  # read up to their own end tag: what stands in them is no HTML, or is read by itself
    "script style svg math title textarea iframe noembed noframes xmp plaintext"
)
OF_HEAD = _tags("base link meta noscript script style template title")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
OPTIONS = ("option", "optgroup")

# Nesting, as the HTML standard has it where a reader would notice.
ENDS_P = _tags(
    """address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer
    form header hgroup hr main menu nav ol p pre section summary table ul li dd dt"""
) | set(HEADINGS)
SPECIAL = ENDS_P | _tags(
    """applet body button caption col colgroup frameset head html iframe marquee noscript object select
    tbody td template tfoot th thead tr"""
)
SCOPE = _tags("applet caption html table td th marquee object template")
SCOPE_P = SCOPE | {"button"}
SCOPE_LIST = SCOPE | {"ol", "ul"}
SCOPE_TABLE = frozenset(("table", "html", "template"))
TABLE = _tags("table caption colgroup tbody thead tfoot tr td th")
_ITEM = SPECIAL - {"address", "div", "p"}
_CELLS = frozenset(("td", "th", "caption", "colgroup"))
_SECTIONS = frozenset(("tbody", "thead", "tfoot"))
_CELL = ((_CELLS, SCOPE_TABLE),)
_ROW = ((frozenset(("tr",)), SCOPE_TABLE), *_CELL)
_SECTION = ((_SECTIONS, SCOPE_TABLE), *_ROW)
_TERM = ((frozenset(("dt", "dd")), _ITEM),)
# The first of these that is open, looking no further than the scope, ends where the start tag stands.
ENDS: dict[str, tuple[tuple[frozenset[str], frozenset[str]], ...]] = {
    "li": ((frozenset(("li",)), _ITEM),),
    "dt": _TERM,
    "dd": _TERM,
    "td": _CELL,
    "th": _CELL,
    "tr": _ROW,
    **dict.fromkeys(("caption", "colgroup", *sorted(_SECTIONS)), _SECTION),
    "table": ((frozenset(("table",)), SPECIAL - _SECTIONS - {"table", "tr", "colgroup"}),),
}

# Places on a page.
NEVER = _tags("noscript template button select datalist audio video canvas object applet frameset head map")
EDGE_TAGS = frozenset(("nav", "footer"))
FOREIGN_TAGS = _tags("aside header dialog menu progress meter figcaption fieldset label")
LIKELY_TAGS = frozenset(("article", "main"))
CONTAINERS = _tags("body div section article main td center form")  # may hold just the article
PARTS = _tags("p pre dl section table blockquote")  # of an article, where prose stands in them
LINK_LISTS = _tags("ul ol dl table")
LINK_BOXES = frozenset(("div",))
NAMED = _tags("div ul ol table form aside p")  # an id of others names what a part is about

EDGE = _listed("footer contentinfo")  # the end of a page: all its prose, where a page is a list of links
FOREIGN = _listed(  # what is no article
    """comment disqus _respond_ sidebar _side_bar related recommend popular trending outbrain
    taboola navigation navbar _nav_ breadcrumb menu_ newsletter cookie consent most_read more_stor
    read_more complementary pagination _pager katex_html mathjax headerlink caption gallery"""
)
UNLIKELY = _listed(  # what may be one at times
    """subscribe_ subscription popup byline _credit banner _share_ _sharing _social _ad_ _ads_ advert
    sponsor promo _login signup _sign_up _search _tags_ tagcloud _tag_list _bio_ _author _modal overlay
    toolbar _skip_ widget copyright _rating timestamp _date_ dateline _meta_ _next_ _prev_ previous
    _rail_ rightrail right_rail visually_hidden _sr_only_ screen_reader"""
)
LIKELY = _listed(
    """article_body articlebody post_content entry_content story_body article_content post_body entry_body
    body_content story_text article_text _main_"""
)
KEPT = _listed("tweet elementor_widget")  # stand in articles, whatever else their class says
FORMULA = _listed("_tex _latex _math")  # how the class of a picture of a formula begins

# Lines: lower case, "#" for a run of digits, without marks at the end; "*" is anything, at either end.
OTHERS = _phrases(
    """related|related article*|related stories|related story|related news|related posts|related post|
related content|related topics|related links|related coverage|related reading|related videos|
related video|more stories|more news|more articles|more posts|more coverage|more from *|
more on this story|more like this|more in *|most read|most popular|most viewed|most recent|trending|
trending now|trending stories|popular now|popular posts|popular stories|popular articles|
popular categories|popular news|recent posts|recent stories|recent articles|comment|comments|
comments #|comments (#)|comment (#)|leave a comment|leave a reply|add a comment|post a comment|
reply|# comments|# comment|# responses|# replies|explore further|read next|read more|read also|
recommended|recommended for you|recommended stories|recommended reading|you may also like*|
you might also like*|you may like*|you might like*|you may also enjoy*|you might also enjoy*|
you may be interested in*|you might be interested in*|share this*|share on *|share with *|
share via *|like this*|follow us*|about the author|tags|filed under|categories|
join the conversation|what do you think*|tell us what you think*|subscribe*|sign up*|newsletter*|
advertisement|advertisements|sponsored*|poll|polls|previous|next|previous post|next post|
previous article|next article|editor's picks|editors' picks|editor's choice|editors' choice|
don't miss|latest news|latest stories|latest posts|latest articles|latest headlines|around the web|
from the web|ähnliche artikel|mehr zum thema|das könnte sie auch interessieren|kommentare|
article similaire|articles similaires|article lié|articles liés|à lire aussi|lire aussi|
commentaires|artículos relacionados|comentarios|leggi anche|articoli correlati|commenti|関連記事|
スポンサードリンク|スポンサーリンク|コメント|相关文章|相关阅读|相关新闻|похожие статьи|
похожие записи|комментарии|читайте также"""
)
CALLS = _phrases(
    """advert|adverts|advertisement|advertisements|sponsored|sponsored content|sponsored link|
sponsored links|continue reading|continue reading below|story continues*|article continues*|
read more*|read also*|read next*|see also*|see more*|also read*|also see*|also on*|also:*|
click here*|*click here|*clicking here|skip to content*|skip to main content*|loading|filed under*|
# share|# shares|# views|# comments|tweet|retweet|share|email|e-mail|mail|print|facebook|twitter|
pinterest|whatsapp|linkedin|reddit|copy link|follow us*|follow @*|sign up*|subscribe*|updated at *|
updated on *|updated:*|updated :*|published|published on*|published:*|posted on*|posted by*|
posted in*|last updated*|last modified*|*all rights reserved|©*|copyright*|image credit*|
image source*|image via*|images via*|photo by*|photos by*|photo credit*|photo:*|photos:*|
photograph by*|photograph:*|getty images|getty images/*|reuters|reuters/*|ap photo|ap photo/*|
leggi anche*|lire aussi*|lea también*|lesen sie auch*|don't miss|tags:*|share this*|share on*|
comment|comments"""
)
MONTHS = _listed("jan feb mar apr may jun jul aug sep oct nov dec")
TAIL = " :.…!»>*-"
SENTENCE_ENDS = (*'.!?…。！？:;,"”’', "'")

# Blocks.
_BREAKS = _tags(
    """address article aside blockquote body caption center dd details dialog dir div dl dt fieldset
    figcaption figure footer form frameset header hgroup hr html label legend main menu nav optgroup
    option section summary table tbody tfoot thead tr"""
)
KINDS = frozenset(("p", "pre", *HEADINGS))
CELL = frozenset(("td", "th"))
LIST = frozenset(("ul", "ol"))
BLOCKS = _BREAKS | KINDS | CELL | LIST | {"li"}
