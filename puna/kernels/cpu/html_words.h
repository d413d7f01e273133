// What names and phrases say to the HTML kernels; the lists come from puna/data/extract/words.py.
#pragma once
#include <array>
#include <bitset>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace puna::html {

using Tag = int32_t;
constexpr Tag TEXT = 0, KNOWN = 256;  // tags that the lists name stand below KNOWN
using Lists = std::map<std::string, std::vector<std::string>>;
using Numbers = std::map<std::string, double>;

// A set of tags that the lists name.
struct Tags {
  std::bitset<KNOWN> has;
  std::vector<Tag> listed;
  bool operator[](Tag tag) const { return tag < KNOWN && has[tag]; }
};

struct Ends {
  Tags closed, scope;
};

// Marks of all listed parts that occur in a name: one state per prefix of a part, one step per character.
class Finder {
 public:
  void add(const std::vector<std::string>& parts, uint8_t mark);
  void finish();
  // The marks of a name as the lists have it: lower case, one space for all else, and around it.
  uint8_t marks(std::string_view name) const {
    if (name.empty()) return 0;
    int32_t state = next_[0][SPACE];
    uint8_t found = marks_[state], last = SPACE;
    for (char c : name) {
      const uint8_t code = CODES[static_cast<uint8_t>(c)];
      if (code == SPACE && last == SPACE) continue;
      last = code, state = next_[state][code], found |= marks_[state];
    }
    return last == SPACE ? found : found | marks_[next_[state][SPACE]];
  }

 private:
  static constexpr uint8_t SPACE = 36;
  static const std::array<uint8_t, 256> CODES;
  std::vector<std::array<int32_t, 37>> next_;
  std::vector<uint8_t> marks_;
};

// Whether a line is one of the phrases, or begins or ends like one ("*" stands for anything).
class Phrases {
 public:
  void read(const std::vector<std::string>& phrases);
  bool match(std::string_view line) const;

 private:
  std::unordered_set<std::string> whole_;
  std::vector<std::string> starts_[256], ends_;
};

class Words {
 public:
  // `ends`: for a tag, pairs of lists (closed, scope); `numbers`: the thresholds of all rules; `references`:
  // named characters.
  Words(const Lists& lists, const std::map<std::string, std::vector<std::vector<std::string>>>& ends,
        const Numbers& numbers, const std::unordered_map<std::string, std::string>& references);

  Tags void_, raw, of_head, headings, ends_p, special, scope, scope_p, scope_list, scope_table, table, never,
      edge_tags, foreign_tags, likely_tags, containers, parts, link_lists, link_boxes, named, kinds, cell,
      list, blocks;
  Tag a, p, br, hr, li, ol, tr, h1, svg, math, meta, img, head, html_tag, body, option, optgroup, pre, title,
      script, xmp, plaintext, table_tag;
  std::array<std::vector<Ends>, KNOWN> ends;
  Finder looks;  // marks as of a node, and those below
  static constexpr uint8_t KEPT = 16, SECTION = 32, FORMULA = 64;
  Phrases others, calls;
  std::vector<std::string> tail, sentence_ends, months;
  std::unordered_map<std::string_view, std::string> references;
  size_t longest_reference = 0;
  // What they mean is said beside their values, in main.py, blocks.py and tidy.py.
  double LEAST, MOST, SOME, LISTED, BOXED, ARTICLE, PART, ONLY, INNER, NEARLY, LINKS, PROSE, LABEL, SUMMARY,
      LONGEST_CELL, LONG, SHORT, CALL, FAR, TOP;

  Tag find(std::string_view name) const;  // TEXT where no list has it
  std::string_view name(Tag tag) const { return names_[tag]; }

 private:
  Tag intern(const std::string& name);
  Tags tags(const std::vector<std::string>& names);
  std::vector<std::string> names_;
  std::array<uint16_t, 1024> slots_{};
  std::vector<std::string> reference_names_;
};

}  // namespace puna::html
