// Twin of puna/data/extract/blocks.py and tidy.py, which say what each step means.
#include <algorithm>
#include <cctype>

#include "html.h"
#include "html_references.h"
#include "reading.h"

namespace puna::html {

namespace {

bool is_blank(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t bytes = white(text, at);
    if (!bytes) return false;
    at += bytes;
  }
  return true;
}

class Reader {
 public:
  std::vector<Block> blocks;

  Reader(const Words& words, const std::vector<Node>& nodes, const Main& main, bool alts)
      : words_(words), nodes_(nodes), main_(main) {
    std::vector<int32_t> open;
    for (int32_t at = main.first; at < main.end; at++) {
      while (!open.empty() && nodes[open.back()].end <= at) leave(open.back()), open.pop_back();
      const Node& node = nodes[at];
      if (main.dropped[at]) {
        at = node.end - 1;
      } else if (node.tag) {
        enter(at, node.tag), open.push_back(at);
      } else if (alts || !(node.marks & ALT)) {
        text(node);
      }
    }
    for (; !open.empty(); open.pop_back()) leave(open.back());
    close();
  }

 private:
  const Words& words_;
  const std::vector<Node>& nodes_;
  const Main& main_;
  Tag kind_ = TEXT;
  std::string held_, mark_;
  bool away_ = true;
  int32_t whole_ = -1;  // the code, or the table of data, that we are in
  std::vector<int64_t> lists_;

  void text(const Node& node) {
    const size_t start = held_.size();
    if (kind_ == words_.pre) {
      for (size_t i = 0; i < node.text.size(); i++) {
        const bool crlf = node.text[i] == '\r' && i + 1 < node.text.size() && node.text[i + 1] == '\n';
        if (!crlf) held_ += node.text[i] == '\r' ? '\n' : node.text[i];
      }
    } else {
      held_.append(node.text);
      for (size_t i = start; i < held_.size(); i++)
        if (held_[i] == '\n' || held_[i] == '\t' || held_[i] == '\r') held_[i] = ' ';
    }
    if (away_ && (!(node.marks & LINKED) || node.marks & HERE) && !is_blank(node.text)) away_ = false;
  }

  void enter(int32_t at, Tag tag) {
    const bool in_code = whole_ >= 0 && kind_ == words_.pre, in_table = whole_ >= 0 && !in_code;
    if (tag == words_.br) {
      held_ += in_table ? ' ' : '\n';
    } else if (!words_.blocks[tag] || in_code) {
      return;
    } else if (in_table) {
      if (tag == words_.tr) return close();
      held_ += words_.cell[tag] ? '\t' : ' ';
    } else {
      close();
      if (words_.list[tag]) lists_.push_back(tag == words_.ol ? 1 : -1);
      if (tag == words_.li) item();
      if (tag == words_.pre || (tag == words_.table_tag && is_data(at))) whole_ = at;
      kind_ = words_.kinds[tag] || tag == words_.li ? tag : TEXT;
    }
  }

  void leave(int32_t at) {
    const Tag tag = nodes_[at].tag;
    if (!words_.blocks[tag]) return;
    if (whole_ >= 0 && whole_ != at) {
      if (kind_ != words_.pre) held_ += ' ';
      return;
    }
    close();
    kind_ = TEXT, whole_ = -1;
    if (words_.list[tag]) lists_.pop_back();
    if (tag == words_.li) mark_.clear();
  }

  void item() {
    const int64_t number = lists_.empty() ? -1 : lists_.back();
    mark_.assign(lists_.empty() ? 0 : 2 * (lists_.size() - 1), ' ');
    mark_ += number < 0 ? "- " : std::to_string(number) + ". ";
    if (number > 0) lists_.back()++;
  }

  bool is_data(int32_t at) const {
    for (int32_t i = at + 1; i < nodes_[at].end; i++) {
      const Tag tag = nodes_[i].tag;
      if (tag == words_.table_tag || tag == words_.pre) return false;
      if (words_.cell[tag] && main_.size[i] > words_.LONGEST_CELL) return false;
    }
    return true;
  }

  void close() {
    const bool away = away_;
    away_ = true;
    if (held_.empty()) return;
    if (kind_ == words_.pre) {
      close_code();
    } else if (!mark_.empty() || kind_) {
      std::string text;
      each_line([&](const std::string& line) {
        text += (text.empty() ? "" : mark_.empty() ? "\n" : " ") + line;
      });
      if (!text.empty()) {
        blocks.push_back({mark_.empty() ? kind_ : words_.li, std::move(text), std::move(mark_), away});
        mark_.clear();
      }
    } else {
      each_line([&](const std::string& line) { blocks.push_back({TEXT, line, "", away}); });
    }
    held_.clear();
  }

  void close_code() {
    std::string_view text = held_;
    while (!text.empty() && text.front() == '\n') text.remove_prefix(1);
    size_t end = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t bytes = white(text, at);
      at += bytes ? bytes : 1;
      if (!bytes) end = at;
    }
    if (end) blocks.push_back({words_.pre, std::string(text.substr(0, end)), "", false});
  }

  template <class Each>
  void each_line(Each each) {
    std::string line;
    const std::string_view held = held_;
    for (size_t at = 0; at <= held.size();) {
      const size_t end = std::min(held.find('\n', at), held.size());
      line.clear();
      squeeze(held.substr(at, end - at), " | ", line);
      if (!line.empty()) each(line);
      at = end + 1;
    }
  }
};

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

bool ends_with(std::string_view text, const std::string& end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool ends_with(std::string_view text, const std::vector<std::string>& ends) {
  return std::any_of(ends.begin(), ends.end(), [&](const std::string& end) { return ends_with(text, end); });
}

// A line as the lists have it.
std::string plain(const Words& words, std::string_view text) {
  std::string line;
  const auto* at = reinterpret_cast<const uint8_t*>(text.data());
  const auto* end = at + text.size();
  const std::vector<int32_t>& adds = table().adds;
  while (at < end) {
    uint32_t code = *at, bytes = code < 0x80 ? 1 : sequence(at, end, code);
    at += bytes ? bytes : 1;
    code += adds[code];
    if (code < '0' || code > '9') {
      append_character(code, line);
    } else if (line.empty() || line.back() != '#' || !std::isdigit(at[-2])) {
      line += '#';
    }
  }
  for (bool again = true; again;) {
    again = false;
    for (const std::string& mark : words.tail)
      if (ends_with(line, mark)) line.resize(line.size() - mark.size()), again = true;
  }
  return line;
}

bool is_dated(const Words& words, std::string_view line) {
  const size_t iso = line.find("#-#-#");
  if (iso != std::string_view::npos && characters(line.substr(0, iso)) <= words.FAR) return true;
  if (line.find('#') == std::string_view::npos) return false;
  int64_t character = 0;
  bool inside = false;
  for (size_t at = 0; at < line.size() && character <= words.FAR; at++) {
    const bool letter = line[at] >= 'a' && line[at] <= 'z';
    if (letter && !inside)
      for (const std::string& month : words.months)
        if (line.substr(at, month.size()) == month) return true;
    inside = letter;
    character += (line[at] & 0xC0) != 0x80;
  }
  return false;
}

}  // namespace

void squeeze(std::string_view text, std::string_view cells, std::string& out) {
  const size_t start = out.size();
  for (size_t at = 0; at < text.size();) {
    bool tab = false;
    const size_t first = at;
    for (size_t bytes; at < text.size() && (bytes = white(text, at)); at += bytes) tab |= text[at] == '\t';
    if (at == text.size()) return;
    if (at > first && out.size() > start) out += tab ? cells : " ";
    const size_t word = at;
    while (at < text.size() && !white(text, at)) at++;
    out.append(text, word, at - word);
  }
}

std::vector<Block> read_blocks(const Words& words, const std::vector<Node>& nodes, const Main& main,
                               bool alts) {
  return std::move(Reader(words, nodes, main, alts).blocks);
}

void tidy(const Words& words, std::vector<Block>& blocks) {
  size_t kept = 0;
  bool among_links = false;
  for (size_t place = 0; place < blocks.size(); place++) {
    const Block& block = blocks[place];
    bool unwanted = false;
    if (block.kind == words.pre) {
      among_links = false;
    } else {
      const int64_t size = characters(block.text);
      if (size >= words.LONG && ends_with(block.text, words.sentence_ends)) among_links = false;
      const std::string line = size <= words.CALL ? plain(words, block.text) : "";
      if (place && size <= words.SHORT && words.others.match(line)) among_links = true;
      unwanted = among_links ||
                 (block.away && block.kind == words.p && block.text.find("://") == std::string::npos) ||
                 (size <= words.CALL && words.calls.match(line)) ||
                 (place < words.TOP && size <= words.SHORT && is_dated(words, line));
    }
    if (!unwanted && kept != place) blocks[kept] = std::move(blocks[place]);
    kept += !unwanted;
  }
  blocks.resize(kept);
}

std::string write_blocks(const Words& words, const std::vector<Block>& blocks, bool markdown) {
  std::string out;
  Tag before = TEXT;
  for (const Block& block : blocks) {
    const bool apart =
        words.kinds[block.kind] || words.kinds[before] || (before == words.li) != (block.kind == words.li);
    if (!out.empty()) out += apart ? "\n\n" : "\n";
    before = block.kind;
    const bool code = markdown && block.kind == words.pre;
    const std::string fence = block.text.find("```") == std::string::npos ? "```" : "~~~~";
    if (code) out += fence + "\n";
    if (markdown && words.headings[block.kind]) out.append(words.name(block.kind)[1] - '0', '#') += ' ';
    out += block.mark + block.text;
    if (code) out += "\n" + fence;
  }
  return out;
}

Page read_page(const Words& words, std::string_view html, const Settings& settings) {
  Page page;
  if (std::count(html.begin(), html.end(), '<') > settings.most_tags) {
    page.refused = "too_many_tags";
    return page;
  }
  Tree tree = build(words, html, settings);
  page.title = std::move(tree.title), page.robots = std::move(tree.robots), page.tdm = std::move(tree.tdm);
  page.refused = tree.refused;
  if (!page.refused.empty()) return page;
  const Main main = find_main(words, tree.nodes, settings.title);
  std::vector<Block> blocks = read_blocks(words, tree.nodes, main, settings.alts);
  tidy(words, blocks);
  page.text = write_blocks(words, blocks, settings.markdown);
  if (page.text.empty()) page.refused = "empty";
  return page;
}

bool is_plain_utf8(std::string_view bytes) {
  for (const char* mark : {"\xEF\xBB\xBF", "\xFF\xFE", "\xFE\xFF"})
    if (bytes.substr(0, std::string_view(mark).size()) == mark) return false;
  if (bytes.find('\0') != std::string_view::npos) return false;
  const auto* at = reinterpret_cast<const uint8_t*>(bytes.data());
  const auto* end = at + bytes.size();
  bool ascii = true;
  while (at < end) {
    uint64_t eight;
    if (end - at >= 8 && (std::memcpy(&eight, at, 8), !(eight & 0x8080808080808080))) {
      at += 8;
      continue;
    }
    uint32_t code = *at, length = code < 0x80 ? 1 : sequence(at, end, code);
    if (!length) return false;
    ascii &= length == 1, at += length;
  }
  return !ascii || bytes.find('\x1B') == std::string_view::npos;
}

}  // namespace puna::html
