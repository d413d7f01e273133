#include "html_words.h"

#include <algorithm>
#include <stdexcept>

#include "html.h"

namespace puna::html {

const std::array<uint8_t, 256> Finder::CODES = [] {
  std::array<uint8_t, 256> codes;
  codes.fill(SPACE);
  for (int c = 0; c < 26; c++) codes['a' + c] = codes['A' + c] = static_cast<uint8_t>(c);
  for (int c = 0; c < 10; c++) codes['0' + c] = static_cast<uint8_t>(26 + c);
  return codes;
}();

void Finder::add(const std::vector<std::string>& parts, uint8_t mark) {
  constexpr std::array<int32_t, 37> none{};
  if (next_.empty()) next_.push_back(none), marks_.push_back(0);
  for (const std::string& part : parts) {
    int32_t state = 0;
    for (char c : part) {
      const uint8_t code = CODES[static_cast<uint8_t>(c)];
      if (!next_[state][code]) {
        next_[state][code] = static_cast<int32_t>(next_.size());
        next_.push_back(none), marks_.push_back(0);
      }
      state = next_[state][code];
    }
    marks_[state] |= mark;
  }
}

// Aho and Corasick: where a part cannot go on, go on with the longest other one that ends here.
void Finder::finish() {
  std::vector<int32_t> back(next_.size()), queue;
  for (int32_t to : next_[0])
    if (to) queue.push_back(to);
  for (size_t i = 0; i < queue.size(); i++) {
    const int32_t state = queue[i], other = back[state];
    marks_[state] |= marks_[other];
    for (size_t code = 0; code < next_[state].size(); code++) {
      int32_t& to = next_[state][code];
      if (to) {
        back[to] = next_[other][code], queue.push_back(to);
      } else {
        to = next_[other][code];
      }
    }
  }
}

void Phrases::read(const std::vector<std::string>& phrases) {
  for (const std::string& phrase : phrases) {
    if (phrase.back() == '*') {
      starts_[static_cast<uint8_t>(phrase[0])].push_back(phrase.substr(0, phrase.size() - 1));
    } else if (phrase[0] == '*') {
      ends_.push_back(phrase.substr(1));
    } else {
      whole_.insert(phrase);
    }
  }
}

bool Phrases::match(std::string_view line) const {
  if (line.empty()) return false;
  if (whole_.count(std::string(line))) return true;
  for (const std::string& start : starts_[static_cast<uint8_t>(line[0])])
    if (line.substr(0, start.size()) == start) return true;
  for (const std::string& end : ends_)
    if (line.size() >= end.size() && line.substr(line.size() - end.size()) == end) return true;
  return false;
}

static size_t slot_of(std::string_view name) {
  uint64_t h = name.size();
  for (char c : name) h = h * 31 + static_cast<uint8_t>(c);
  return (h ^ h >> 10) % 1024;
}

Tag Words::find(std::string_view name) const {
  for (size_t slot = slot_of(name); slots_[slot]; slot = (slot + 1) % 1024)
    if (names_[slots_[slot]] == name) return slots_[slot];
  return TEXT;
}

Tag Words::intern(const std::string& name) {
  Tag found = find(name);
  if (found) return found;
  if (names_.size() >= KNOWN) throw std::length_error("too many tags in the lists");
  size_t slot = slot_of(name);
  while (slots_[slot]) slot = (slot + 1) % 1024;
  slots_[slot] = static_cast<uint16_t>(names_.size());
  names_.push_back(name);
  return slots_[slot];
}

Tags Words::tags(const std::vector<std::string>& names) {
  Tags tags;
  for (const std::string& name : names) {
    const Tag tag = intern(name);
    if (!tags.has[tag]) tags.listed.push_back(tag);
    tags.has.set(tag);
  }
  return tags;
}

Words::Words(const Lists& lists, const std::map<std::string, std::vector<std::vector<std::string>>>& ends_of,
             const Numbers& numbers, const std::unordered_map<std::string, std::string>& characters) {
  names_.push_back("");  // of texts
  const std::pair<Tags*, const char*> sets[] = {
      {&void_, "VOID"},
      {&raw, "RAW"},
      {&of_head, "OF_HEAD"},
      {&headings, "HEADINGS"},
      {&ends_p, "ENDS_P"},
      {&special, "SPECIAL"},
      {&scope, "SCOPE"},
      {&scope_p, "SCOPE_P"},
      {&scope_list, "SCOPE_LIST"},
      {&scope_table, "SCOPE_TABLE"},
      {&table, "TABLE"},
      {&never, "NEVER"},
      {&edge_tags, "EDGE_TAGS"},
      {&foreign_tags, "FOREIGN_TAGS"},
      {&likely_tags, "LIKELY_TAGS"},
      {&containers, "CONTAINERS"},
      {&parts, "PARTS"},
      {&link_lists, "LINK_LISTS"},
      {&link_boxes, "LINK_BOXES"},
      {&named, "NAMED"},
      {&kinds, "KINDS"},
      {&cell, "CELL"},
      {&list, "LIST"},
      {&blocks, "BLOCKS"},
  };
  for (const auto& [set, key] : sets) *set = tags(lists.at(key));
  const std::pair<Tag*, const char*> single[] = {
      {&a, "a"},
      {&p, "p"},
      {&br, "br"},
      {&hr, "hr"},
      {&li, "li"},
      {&ol, "ol"},
      {&tr, "tr"},
      {&h1, "h1"},
      {&svg, "svg"},
      {&math, "math"},
      {&meta, "meta"},
      {&img, "img"},
      {&head, "head"},
      {&html_tag, "html"},
      {&body, "body"},
      {&option, "option"},
      {&optgroup, "optgroup"},
      {&pre, "pre"},
      {&title, "title"},
      {&script, "script"},
      {&xmp, "xmp"},
      {&plaintext, "plaintext"},
      {&table_tag, "table"},
  };
  for (const auto& [tag, name] : single) *tag = intern(name);
  for (const auto& [name, steps] : ends_of)
    for (size_t i = 0; i + 1 < steps.size(); i += 2)
      ends[intern(name)].push_back({tags(steps[i]), tags(steps[i + 1])});
  looks.add(lists.at("EDGE"), EDGE);
  looks.add(lists.at("FOREIGN"), html::FOREIGN);
  looks.add(lists.at("UNLIKELY"), UNLIKELY);
  looks.add(lists.at("LIKELY"), LIKELY);
  looks.add(lists.at("KEPT"), KEPT);
  looks.add(lists.at("FORMULA"), FORMULA);
  looks.add({" section "}, SECTION);
  looks.finish();
  const std::pair<double*, const char*> thresholds[] = {
      {&LEAST, "LEAST"},   {&MOST, "MOST"},       {&SOME, "SOME"},
      {&LISTED, "LISTED"}, {&BOXED, "BOXED"},     {&ARTICLE, "ARTICLE"},
      {&PART, "PART"},     {&ONLY, "ONLY"},       {&INNER, "INNER"},
      {&NEARLY, "NEARLY"}, {&LINKS, "LINKS"},     {&PROSE, "PROSE"},
      {&LABEL, "LABEL"},   {&SUMMARY, "SUMMARY"}, {&LONGEST_CELL, "LONGEST_CELL"},
      {&LONG, "LONG"},     {&SHORT, "SHORT"},     {&CALL, "CALL"},
      {&FAR, "FAR"},       {&TOP, "TOP"},
  };
  for (const auto& [number, name] : thresholds) *number = numbers.at(name);
  others.read(lists.at("OTHERS")), calls.read(lists.at("CALLS"));
  tail = lists.at("TAIL"), sentence_ends = lists.at("SENTENCE_ENDS"), months = lists.at("MONTHS");
  reference_names_.reserve(characters.size());
  for (const auto& [name, character] : characters) {
    reference_names_.push_back(name);
    references.emplace(reference_names_.back(), character);
    longest_reference = std::max(longest_reference, name.size());
  }
}

}  // namespace puna::html
