// Twin of puna/data/extract/tree.py, which says what each step means.
#include <algorithm>

#include "html.h"
#include "html_references.h"

namespace puna::html {

namespace {

constexpr size_t NONE = std::string_view::npos;

// The attributes that anybody asks for; the first of a name counts.
enum Name { CLASS, ID, ROLE, STYLE, HIDDEN_, TYPE, ALT_, SRC, HREF, NAME, CONTENT, DISPLAY, ALTTEXT, NAMES };
constexpr std::string_view KNOWN_NAMES[NAMES] = {"class",   "id",      "role",   "style", "hidden",
                                                 "type",    "alt",     "src",    "href",  "name",
                                                 "content", "display", "alttext"};

struct Attributes {
  std::string_view values[NAMES];
  uint32_t present = 0;
  std::string_view operator[](Name name) const { return values[name]; }
  bool has(Name name) const { return present >> name & 1; }

  void set(std::string_view name, std::string_view value) {
    for (int known = 0; known < NAMES; known++) {
      if (!same(name, KNOWN_NAMES[known])) continue;
      if (!(present >> known & 1)) values[known] = value;
      present |= 1u << known;
    }
  }

  static bool same(std::string_view name, std::string_view known) {
    if (name.size() != known.size() || lower(name[0]) != known[0]) return false;
    for (size_t i = 1; i < name.size(); i++)
      if (lower(name[i]) != known[i]) return false;
    return true;
  }
};

std::string lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = lower(c);
  return out;
}

std::string_view stripped(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

bool says(std::string_view text, std::string_view part) { return text.find(part) != NONE; }

class Builder {
 public:
  Builder(const Words& words, std::string_view html, const Settings& settings)
      : words_(words), html_(html), settings_(settings), counts_(KNOWN) {
    tree.nodes.reserve(html.size() / 24);
  }

  Tree tree;

  void run() {
    size_t at = 0;
    while (at < html_.size() && tree.refused.empty()) {
      size_t start = std::min(html_.find('<', at), html_.size());
      const char next = start + 1 < html_.size() ? html_[start + 1] : '\0';
      const bool markup = next == '!' || next == '/' || next == '?' || is_letter(next);
      start += !markup && start < html_.size();
      if (start > at) text(unescape(html_.substr(at, start - at)), 0);
      at = markup ? read_markup(start) : start;
    }
    while (!open_.empty()) pop();
  }

 private:
  const Words& words_;
  const std::string_view html_;
  const Settings& settings_;
  std::vector<int32_t> open_;
  std::vector<int32_t> counts_;
  std::unordered_map<std::string, Tag> others_;  // tags that no list names
  std::string name_;
  int64_t links_ = 0, away_ = 0;
  bool no_svg_end_ = false, no_math_end_ = false;

  std::string_view keep(std::string&& text) { return tree.kept.emplace_back(std::move(text)); }

  std::string_view unescape(std::string_view raw) {
    if (raw.find('&') == NONE) return raw;
    return keep(unescaped(words_, raw));
  }

  size_t read_markup(size_t start) {
    if (html_.substr(start, 4) == "<!--") return behind("-->", start + 2);
    const bool closes = html_[start + 1] == '/';
    const size_t first = start + 1 + closes;
    if (first >= html_.size() || !is_letter(html_[first])) return behind(">", start);
    size_t at = first;
    while (at < html_.size() && !is_space(html_[at]) && html_[at] != '/' && html_[at] != '>') at++;
    const std::string_view name = html_.substr(first, at - first);
    Attributes attributes;
    if (!read_attributes(at, attributes)) return html_.size();
    const Tag tag = tag_of(name);
    if (!closes) return enter(tag, attributes, at);
    leave(tag);
    return at;
  }

  size_t behind(std::string_view mark, size_t at) const {
    const size_t end = html_.find(mark, at);
    return end == NONE ? html_.size() : end + mark.size();
  }

  Tag tag_of(std::string_view name) {
    name_.assign(name);
    for (char& c : name_) c = lower(c);
    const Tag known = words_.find(name_);
    if (known) return known;
    const auto [found, fresh] = others_.try_emplace(name_, static_cast<Tag>(counts_.size()));
    if (fresh) counts_.push_back(0);
    return found->second;
  }

  // Reads from `at` to behind the tag; false if the page ends before, or there are too many.
  bool read_attributes(size_t& at, Attributes& attributes) {
    const std::string_view html = html_;
    const size_t size = html.size();
    for (int64_t count = 0;;) {
      while (at < size && (is_space(html[at]) || html[at] == '/')) at++;
      if (at == size || html[at] == '>') return at++ < size;
      const size_t start = at++;
      while (at < size && !is_space(html[at]) && html[at] != '/' && html[at] != '>' && html[at] != '=') at++;
      const std::string_view name = html.substr(start, at - start);
      std::string_view value;
      const bool closed = read_value(at, value);
      if (++count > settings_.most_attributes) {
        tree.refused = "too_many_attributes";
        return false;
      }
      if (!closed) return false;
      attributes.set(name, value);
    }
  }

  // What stands behind a name; false if a quotation has no end.
  bool read_value(size_t& at, std::string_view& value) const {
    const size_t size = html_.size();
    size_t next = at;
    while (next < size && is_space(html_[next])) next++;
    if (next == size || html_[next] != '=') return true;
    at = next + 1;
    while (at < size && is_space(html_[at])) at++;
    if (at < size && (html_[at] == '"' || html_[at] == '\'')) {
      const size_t end = html_.find(html_[at], at + 1);
      value = html_.substr(at + 1, std::min(end, size) - at - 1);
      at = end == NONE ? size : end + 1;
      return end != NONE;
    }
    const size_t start = at;
    while (at < size && !is_space(html_[at]) && html_[at] != '>') at++;
    value = html_.substr(start, at - start);
    return true;
  }

  // Elements.

  size_t enter(Tag tag, const Attributes& attributes, size_t at) {
    if (words_.raw[tag]) {
      bool& never = tag == words_.svg ? no_svg_end_ : no_math_end_;
      const bool optional = tag == words_.svg || tag == words_.math;
      if (!optional || !never) {
        const size_t end = raw_end(tag, at);
        if (end < html_.size() || !optional) {
          read_raw(tag, attributes, html_.substr(at, end - at));
          return behind(">", end);
        }
        never = true;
      }
    }
    if ((tag == words_.html_tag || tag == words_.body || tag == words_.head) && counts_[tag]) return at;
    imply(tag);
    if (tag == words_.meta) {
      read_meta(attributes);
    } else if (tag == words_.img) {
      read_image(attributes);
    } else if (tag == words_.br || tag == words_.hr) {
      push(tag, 0), pop();
    } else if (!words_.void_[tag] && tag != words_.svg) {
      push(tag, marks_of(tag, attributes));
    }
    return at;
  }

  bool is_end(Tag tag, size_t at) const {
    const std::string_view name = words_.name(tag);
    if (at + 2 + name.size() >= html_.size() || html_[at + 1] != '/') return false;
    const char next = html_[at + 2 + name.size()];
    return Attributes::same(html_.substr(at + 2, name.size()), name) &&
           (is_space(next) || next == '/' || next == '>');
  }

  size_t raw_end(Tag tag, size_t at) const {
    if (tag == words_.plaintext) return html_.size();
    for (at = html_.find('<', at); at != NONE; at = html_.find('<', at + 1))
      if (is_end(tag, at)) return at;
    return html_.size();
  }

  void read_raw(Tag tag, const Attributes& attributes, std::string_view inside) {
    if (tag == words_.title) {
      if (tree.title.empty()) squeeze(unescape(inside), " ", tree.title);
    } else if (tag == words_.script) {
      if (says(attributes[TYPE], "math/tex")) add_formula(inside, says(attributes[TYPE], "display"));
    } else if (tag == words_.math) {
      read_math(attributes, inside);
    } else if (tag == words_.xmp || tag == words_.plaintext) {
      imply(words_.pre);
      push(words_.pre, 0);
      text(inside, 0);
      pop();
    }
  }

  void read_math(const Attributes& attributes, std::string_view inside) {
    std::string_view tex;
    if (!annotation(inside, tex)) tex = attributes[ALTTEXT];
    if (!tex.empty()) return add_formula(unescape(tex), attributes[DISPLAY] == "block");
    std::string letters;
    for (size_t at = 0; at < inside.size();) {
      const size_t end = inside[at] == '<' ? inside.find_first_of("<>", at + 1) : NONE;
      if (end != NONE && inside[end] == '>') {
        at = end + 1;
      } else {
        letters += inside[at++];
      }
    }
    text(keep(" " + unescaped(words_, letters) + " "), 0);
  }

  static bool annotation(std::string_view inside, std::string_view& tex) {
    constexpr std::string_view OPEN = "<annotation";
    for (size_t at = inside.find(OPEN); at != NONE; at = inside.find(OPEN, at)) {
      at += OPEN.size();
      const size_t end = inside.find_first_of("<>", at);
      if (end == NONE || inside[end] == '<') continue;
      const std::string_view head = inside.substr(at, end - at);
      if (!says(head, "tex") && !says(head, "TeX")) continue;
      tex = inside.substr(end + 1);
      tex = tex.substr(0, tex.find('<'));
      return true;
    }
    return false;
  }

  void add_formula(std::string_view tex, bool display) {
    tex = stripped(tex);
    const std::string mark = display ? "$$" : "$";
    if (!tex.empty()) text(keep(" " + mark + std::string(tex) + mark + " "), 0);
  }

  void read_image(const Attributes& attributes) {
    const std::string_view alt = unescape(attributes[ALT_]);
    if (words_.looks.marks(attributes[CLASS]) & Words::FORMULA || says(lowered(attributes[SRC]), "latex"))
      return add_formula(alt, false);
    text(alt, ALT);
  }

  void read_meta(const Attributes& attributes) {
    if (!attributes.has(NAME)) return;
    const std::string name = lowered(stripped(attributes[NAME]));
    const bool robots = name == "robots", tdm = name == "tdm-reservation";
    if (!robots && !tdm) return;
    std::string content;
    squeeze(unescape(attributes[CONTENT]), " ", content);
    if (robots && !content.empty()) tree.robots += (tree.robots.empty() ? "" : "\n") + content;
    if (tdm && tree.tdm.empty()) tree.tdm = content;
  }

  uint8_t marks_of(Tag tag, const Attributes& attributes) const {
    uint8_t marks = 0;
    if (attributes.has(STYLE)) {
      std::string style = lowered(attributes[STYLE]);
      style.erase(std::remove(style.begin(), style.end(), ' '), style.end());
      if (says(style, "display:none") || says(style, "visibility:hidden")) marks |= HIDDEN;
    }
    if (attributes.has(HIDDEN_)) marks |= HIDDEN;
    if (tag == words_.a && attributes.has(HREF))
      marks |= LINKED | (attributes[HREF].substr(0, 1) == "#" ? HERE : 0);
    const uint8_t of_class = words_.looks.marks(attributes[CLASS]);
    uint8_t looks = of_class | words_.looks.marks(attributes[ROLE]);
    if (attributes.has(ID) && words_.named[tag] && !(of_class & Words::SECTION))
      looks |= words_.looks.marks(attributes[ID]);
    if (of_class & Words::KEPT) looks &= ~(EDGE | FOREIGN | UNLIKELY);
    return marks | (looks & (EDGE | FOREIGN | UNLIKELY | LIKELY));
  }

  void push(Tag tag, uint8_t marks) {
    if (static_cast<int64_t>(open_.size()) >= settings_.most_depth) {
      tree.refused = "too_deep";
      return;
    }
    tree.nodes.push_back({tag, marks, open_.empty() ? -1 : open_.back(), 0, {}});
    open_.push_back(static_cast<int32_t>(tree.nodes.size()) - 1);
    counts_[tag]++;
    if (marks & LINKED) links_++, away_ += !(marks & HERE);
  }

  void pop() {
    if (open_.empty()) return;
    Node& node = tree.nodes[open_.back()];
    open_.pop_back();
    node.end = static_cast<int32_t>(tree.nodes.size());
    counts_[node.tag]--;
    unlink(node);
  }

  void unlink(Node& node) {
    if (!(node.marks & LINKED)) return;
    node.marks &= ~LINKED;
    links_--, away_ -= !(node.marks & HERE);
  }

  void text(std::string_view text, uint8_t marks) {
    if (text.empty()) return;
    if (top() == words_.head && !stripped(text).empty()) pop();
    if (links_) marks |= LINKED | (away_ ? 0 : HERE);
    const auto place = static_cast<int32_t>(tree.nodes.size());
    tree.nodes.push_back({TEXT, marks, open_.empty() ? -1 : open_.back(), place + 1, text});
  }

  Tag top() const { return open_.empty() ? TEXT : tree.nodes[open_.back()].tag; }

  void imply(Tag tag) {
    if (top() == words_.head && !words_.of_head[tag]) pop();
    if (words_.ends_p[tag]) close(words_.p, words_.scope_p);
    if (tag < KNOWN && !words_.ends[tag].empty()) {
      for (const Ends& ends : words_.ends[tag])
        if (close(ends.closed, ends.scope)) break;
    } else if (words_.headings[tag]) {
      if (words_.headings[top()]) pop();
    } else if (tag == words_.option || tag == words_.optgroup) {
      if (top() == words_.option) pop();
    } else if (tag == words_.a) {
      leave(tag);
    }
  }

  bool close(const Tags& tags, const Tags& scope) {
    for (Tag tag : tags.listed)
      if (counts_[tag]) return close_if([&](Tag open) { return tags[open]; }, scope);
    return false;
  }

  bool close(Tag tag, const Tags& scope) {
    return counts_[tag] && close_if([&](Tag open) { return open == tag; }, scope);
  }

  template <class Closes>
  bool close_if(Closes closes, const Tags& scope) {
    for (size_t place = open_.size(); place-- > 0;) {
      const Tag open = tree.nodes[open_[place]].tag;
      if (closes(open)) {
        while (open_.size() > place) pop();
        return true;
      }
      if (scope[open]) return false;
    }
    return false;
  }

  void leave(Tag tag) {
    if (tag == words_.br || (tag == words_.p && !counts_[tag])) {
      enter(tag, {}, 0);
      if (tag == words_.p && tree.refused.empty()) pop();
    } else if (words_.headings[tag]) {
      close(words_.headings, words_.scope);
    } else if (words_.table[tag]) {
      close(tag, words_.scope_table);
    } else if (words_.special[tag]) {
      if (tag != words_.html_tag && tag != words_.body)
        close(tag, tag == words_.li ? words_.scope_list : words_.scope);
    } else if (!close(tag, words_.special) && tag == words_.a && links_) {
      for (int32_t place : open_) unlink(tree.nodes[place]);
    }
  }
};

}  // namespace

Tree build(const Words& words, std::string_view html, const Settings& settings) {
  Builder builder(words, html, settings);
  builder.run();
  return std::move(builder.tree);
}

}  // namespace puna::html
