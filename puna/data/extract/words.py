"""Names of HTML: which elements nest how, and what class names say of an element's place on the page."""

import re

SPACE = re.compile(r"[ \t\n\r\f\v\xa0]+")
ATTRIBUTES = frozenset(
    ("class", "id", "role", "style", "hidden", "type", "alt", "src", "name", "content", "display", "alttext", "href")
)
VOID = frozenset(
    "area base basefont bgsound br col embed frame hr img image input keygen link meta param source track wbr".split()
)
_RAW = "script style svg math title textarea iframe noembed noframes xmp listing plaintext".split()
RAW = {
    name: re.compile(f"(?i:</{name})(?=[ \\t\\n\\r\\f/>])" if name != "plaintext" else r"\Z", re.ASCII)
    for name in _RAW
}
OF_HEAD = frozenset("base link meta noscript script style template title".split())
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
ENDS_P = frozenset(
    """address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer form
    header hgroup hr main menu nav ol p pre section summary table ul li dd dt""".split()
) | set(HEADINGS)
SPECIAL = ENDS_P | frozenset(
    """applet body button caption col colgroup frameset head html iframe marquee noscript object select tbody td
    template tfoot th thead tr""".split()
)
SCOPE = frozenset("applet caption html table td th marquee object template".split())
SCOPE_P = SCOPE | {"button"}
SCOPE_LIST = SCOPE | {"ol", "ul"}
SCOPE_TABLE = frozenset(("table", "html", "template"))
TABLE = frozenset("table caption colgroup tbody thead tfoot tr td th".split())
_ITEM = SPECIAL - {"address", "div", "p"}
_CELLS = ("td", "th", "caption", "colgroup")
_SECTIONS = ("tbody", "thead", "tfoot")
_INSIDE = SPECIAL - {"table", "tr", "colgroup", *_SECTIONS}
Ends = tuple[tuple[tuple[str, ...], frozenset[str]], ...]
ENDS: dict[str, Ends] = {  # of a start tag: which open elements it ends, innermost first, within what
    "li": ((("li",), _ITEM),),
    "dt": ((("dt", "dd"), _ITEM),),
    "dd": ((("dt", "dd"), _ITEM),),
    "td": ((_CELLS, SCOPE_TABLE),),
    "th": ((_CELLS, SCOPE_TABLE),),
    "tr": ((("tr",), SCOPE_TABLE), (_CELLS, SCOPE_TABLE)),
    "table": ((("table",), _INSIDE),),
}
for _name in ("caption", "colgroup", *_SECTIONS):
    ENDS[_name] = ((_SECTIONS, SCOPE_TABLE), (("tr",), SCOPE_TABLE), (_CELLS, SCOPE_TABLE))

FORMULA = (" tex", " latex", " math")  # how the class of a picture of a formula begins
# Elements that hold nothing to read.
DROPPED = frozenset(
    """nav footer aside header noscript template button select datalist iframe object applet audio video canvas dialog
    menu frameset head map progress meter figcaption fieldset label""".split()
)
# In names of classes, identifiers and roles, lower case, each run of other characters one space.
FOREIGN = (  # what is surely not the article
    "footer", "comment", "disqus", " respond ", "sidebar", " side bar", "related", "recommend", "popular", "trending", "outbrain",
    "taboola", "navigation", "navbar", " nav ", "breadcrumb", "menu ", "newsletter", "cookie", "consent", "most read", "more stor",
    "read more", "contentinfo", "complementary", "pagination", " pager", "katex html", "mathjax", "headerlink", "caption", "gallery",
)  # fmt: skip
UNLIKELY = (
    "subscribe ", "subscription", "popup", "byline", " credit", "banner", " share ", " sharing", " social", " ad ", " ads ", "advert", "sponsor",
    "promo", " login", "signup", " sign up", " search", " tags ", "tagcloud", " tag list", " bio ", " author", " modal", "overlay", "toolbar", " skip ",
    "widget", "copyright", " rating", "timestamp", " date ", "dateline", " meta ",
    " next ", " prev ", "previous", " rail ", "rightrail", "right rail", "visually hidden", " sr only ", "screen reader",
)  # fmt: skip
LIKELY = (
    "caption", "gallery", "footer", "consent", "cookie", "newsletter", "subscri", "popular", "popup", "byline",
    "credit", "related", "banner", "headerlink", "katex html", "mathjax",
    " nav ", "navbar", "navigation", "menu", "breadcrumb", "sidebar", " side bar", " share", "sharing", "social",
    "comment", "disqus", "respond", " ad ", " ads ", "advert", "sponsor", "promo", "login", "signup", "sign up", "search",
    "pagination", "pager", " tags", "tagcloud", "tag list", " bio", "author", "modal", "overlay", "recommend", "trending", "outbrain", "taboola",
    "toolbar", " skip", "complementary", "contentinfo", "most read", "more stor", "read more", "widget", "copyright", "rating", "timestamp", " date", "dateline", "meta ",
    " next ", " prev ", "previous", " hide ", " rail ", "rightrail", "right rail", "visually hidden", " sr only", "screen reader", " print ", " noprint",
)  # fmt: skip
LIKELY = ("article body", "articlebody", "post content", "entry content", "story body", "article content", "post body", "entry body", "body content", " main ", "story text", "article text")
NEVER = frozenset(("noscript", "template", "button", "select", "datalist", "audio", "video", "canvas", "object", "applet", "frameset", "head", "map"))
NAMED = frozenset(("div", "ul", "ol", "table", "form", "aside", "p"))
PARTS = frozenset(("p", "pre", "dl", "section", "table", "blockquote"))
CONTAINERS = frozenset("body div section article main td center form".split())
LISTS = frozenset("ul ol dl table div section".split())
