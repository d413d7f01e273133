// HTML to the text that a reader came for; twins of the definitions in puna/data/extract.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "html_words.h"

namespace puna::html {

enum Mark : uint8_t {
  HIDDEN = 1,
  FOREIGN = 2,
  UNLIKELY = 4,
  LIKELY = 8,
  LINKED = 16,
  HERE = 32,
  ALT = 64,
  EDGE = 128
};

struct Node {
  Tag tag;  // TEXT: a text
  uint8_t marks;
  int32_t parent, end;  // what it holds stands behind it, up to `end`
  std::string_view text;
};

struct Settings {
  int64_t most_depth, most_tags, most_attributes;
  bool markdown, title, alts;
};

struct Page {
  std::string text, title, robots, tdm, refused;
};

// A page as a flat list of nodes; texts are views of the page, or of `kept`.
struct Tree {
  std::vector<Node> nodes;
  std::deque<std::string> kept;
  std::string title, robots, tdm, refused;
};

Tree build(const Words& words, std::string_view html, const Settings& settings);

// Nodes `first` to `end` are main, but for those dropped and what they hold.
struct Main {
  std::vector<uint8_t> dropped;
  std::vector<int64_t> size;
  int32_t first, end;
};

Main find_main(const Words& words, const std::vector<Node>& nodes, bool title);

struct Block {
  Tag kind;
  std::string text, mark;
  bool away;
};

std::vector<Block> read_blocks(const Words& words, const std::vector<Node>& nodes, const Main& main,
                               bool alts);
void tidy(const Words& words, std::vector<Block>& blocks);
std::string write_blocks(const Words& words, const std::vector<Block>& blocks, bool markdown);

Page read_page(const Words& words, std::string_view html, const Settings& settings);

// Whether bytes are UTF-8 that needs nothing said of it: valid, without a mark or a NUL, no escapes in plain
// ASCII.
bool is_plain_utf8(std::string_view bytes);

inline bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f'; }

inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

inline char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// Bytes of the white space at `at`, or 0; no-break and ideographic spaces count.
inline size_t white(std::string_view text, size_t at) {
  const auto c = static_cast<uint8_t>(text[at]);
  if (c <= ' ') return c == ' ' || (c >= '\t' && c <= '\r');
  if (c == 0xC2) return text.substr(at, 2) == "\xC2\xA0" ? 2 : 0;
  return c == 0xE3 && text.substr(at, 3) == "\xE3\x80\x80" ? 3 : 0;
}

// Appends text without the white space around it, each run of it within as one space, or as `cells` where a
// tab is in it.
void squeeze(std::string_view text, std::string_view cells, std::string& out);

}  // namespace puna::html
