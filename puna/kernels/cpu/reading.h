// Texts as characters and their kinds, and what every kernel reads off them: words, lines, sentences, hashes.
// What each thing means is said by puna/kernels/text_reference.py.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "characters.h"

namespace puna {

constexpr uint64_t GOLDEN = 0x9E3779B97F4A7C15, PRIME = 0x100000001B3;
constexpr uint32_t EVERY = 0x110000, REPLACEMENT = 0xFFFD;

inline uint64_t mix(uint64_t h) {
  h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9;
  h = (h ^ h >> 27) * 0x94D049BB133111EB;
  return h ^ h >> 31;
}

// Kinds as bits, so that a set of kinds is one number.
enum Kind : uint32_t {
  SYMBOL = 1,
  SPACE = 2,
  FEED = 4,
  LETTER = 8,
  ALONE = 16,
  MARK = 32,
  DIGIT = 64,
  APOSTROPHE = 128,
  TERMINAL = 256,
  WIDE = 512,
  CLOSER = 1024
};
constexpr uint32_t BEGINS = LETTER | DIGIT, GOES_ON = BEGINS | MARK, ENDS = TERMINAL | WIDE;
constexpr uint32_t OUTSIDE = SYMBOL | ENDS | CLOSER | APOSTROPHE;

struct Character {
  uint32_t packed;  // the code point in 21 bits; bit 31: one byte that is not UTF-8
  uint32_t code() const { return packed & 0x1FFFFF; }
  uint32_t bytes() const {
    uint32_t c = code();
    return packed >> 31 ? 1 : 1 + (c >= 0x80) + (c >= 0x800) + (c >= 0x10000);
  }
};

// Bytes of the valid sequence at `at`, whose code point goes to `code`; 0 where there is none.
inline uint32_t sequence(const uint8_t* at, const uint8_t* end, uint32_t& code) {
  uint32_t length = *at < 0xC2 ? 0 : *at < 0xE0 ? 2 : *at < 0xF0 ? 3 : *at < 0xF5 ? 4 : 0;
  if (!length || end - at < length) return 0;
  code = *at & (0xFF >> (length + 1));
  for (uint32_t i = 1; i < length; i++) {
    if ((at[i] & 0xC0) != 0x80) return 0;
    code = code << 6 | (at[i] & 0x3F);
  }
  bool overlong = code < (length == 3 ? 0x800u : length == 4 ? 0x10000u : 0x80u);
  return overlong || (code >= 0xD800 && code < 0xE000) || code >= EVERY ? 0 : length;
}

struct Table {
  std::vector<uint16_t> kinds;
  std::vector<int32_t> adds;

  Table() : kinds(EVERY, SYMBOL), adds(EVERY) {
    for (const KindRange& range : KIND_RANGES)
      std::fill(kinds.begin() + range.first, kinds.begin() + range.last + 1, kind(range.kind));
    for (const FoldRange& range : FOLD_RANGES)
      for (uint32_t code = range.first; code <= range.last; code += range.step) adds[code] = range.add;
  }

  static uint16_t kind(char name) {
    switch (name) {
      case ' ':
        return SPACE;
      case '\n':
        return FEED;
      case 'L':
        return LETTER;
      case 'H':
        return ALONE;
      case 'M':
        return MARK;
      case 'D':
        return DIGIT;
      case '\'':
        return APOSTROPHE;
      case 'T':
        return TERMINAL;
      case 'W':
        return WIDE;
      case 'C':
        return CLOSER;
    }
    throw std::logic_error("a kind of character without a meaning");
  }
};

inline const Table& table() {
  static const Table made;
  return made;
}

struct Word {
  uint64_t hash;
  int64_t first, behind;  // characters
  bool alphabetic;
};

// One text at a time; the room of the last one is used again.
class Text {
 public:
  std::vector<Character> characters;
  std::vector<uint16_t> kinds;
  std::vector<Word> words;
  bool digits_alike = false;  // every digit counts as 0 in the hash of a word

  int64_t size() const { return static_cast<int64_t>(characters.size()); }
  uint32_t code(int64_t i) const { return characters[i].code(); }
  bool is(int64_t i, uint32_t set) const { return kinds[i] & set; }

  void read(const uint8_t* at, int64_t bytes) {
    characters.resize(bytes), kinds.resize(bytes);
    const uint16_t* every = kinds_.data();
    const uint8_t* end = at + bytes;
    int64_t count = 0;
    while (at < end) {
      uint32_t code = *at, length = 1;
      if (code >= 0x80) length = sequence(at, end, code);
      if (!length) code = REPLACEMENT;
      kinds[count] = every[code];
      characters[count++].packed = code | (length ? 0 : 1u << 31);
      at += length ? length : 1;
    }
    characters.resize(count), kinds.resize(count);
  }

  // [LD][LDM]*(?:'[LD][LDM]*)*|HM*; `outside(i)` hears of every character that is in no word.
  template <class Outside>
  void find_words(Outside outside) {
    words.clear();
    for (int64_t i = 0, n = size(); i < n;) {
      if (!is(i, BEGINS | ALONE)) {
        outside(i++);
        continue;
      }
      Word word{GOLDEN, i, 0, is(i, ALONE)};
      const uint32_t next = is(i, ALONE) ? MARK : GOES_ON;
      do {
        word.alphabetic |= is(i, LETTER);
        word.hash = (word.hash ^ folded(i)) * PRIME;
        i++;
      } while (i < n &&
               (is(i, next) || (next == GOES_ON && is(i, APOSTROPHE) && i + 1 < n && is(i + 1, BEGINS))));
      word.hash = mix(word.hash), word.behind = i;
      words.push_back(word);
    }
  }

  void find_words() {
    find_words([](int64_t) {});
  }

  // Calls line(start, end, left, right) for each line: all of it, and without the white space around it.
  template <class Line>
  void each_line(Line line) const {
    for (int64_t start = 0, n = size(); start <= n;) {
      int64_t end = std::find(kinds.begin() + start, kinds.end(), FEED) - kinds.begin();
      int64_t left = start, right = end;
      while (right > start && is(right - 1, SPACE)) right--;
      while (left < right && is(left, SPACE)) left++;
      line(start, end, left, right);
      start = end + 1;
    }
  }

  uint64_t hash(int64_t left, int64_t right) const {
    uint64_t h = GOLDEN;
    for (int64_t i = left; i < right; i++) h = (h ^ code(i)) * PRIME;
    return mix(h);
  }

  // Pieces that hold a word, between ends of sentences: [TW]+[C']*(?= |$)|W[TW]*[C']*.
  int64_t sentences(int64_t left, int64_t right) const {
    int64_t count = 0;
    bool word = false;
    for (int64_t i = left; i < right;) {
      if (!is(i, ENDS)) {
        word |= is(i++, BEGINS | ALONE);
        continue;
      }
      bool wide = false;
      for (; i < right && is(i, ENDS); i++) wide |= is(i, WIDE);
      int64_t behind = i;
      while (behind < right && is(behind, CLOSER | APOSTROPHE)) behind++;
      if (wide || behind == right || is(behind, SPACE)) count += word, word = false;
    }
    return count + word;
  }

  bool ends_in_dots(int64_t left, int64_t right) const {
    return right - left >= 3 && code(right - 1) == '.' && code(right - 2) == '.' && code(right - 3) == '.';
  }

 private:
  const std::vector<uint16_t>& kinds_ = table().kinds;
  const std::vector<int32_t>& adds_ = table().adds;

  uint32_t folded(int64_t i) const {
    return digits_alike && is(i, DIGIT) ? '0' : code(i) + adds_[code(i)];
  }
};

// Byte places of rising character places, found by walking on.
class Places {
 public:
  Places(const Text& text, int64_t first) : text_(text), byte_(first) {}
  int64_t of(int64_t character) {
    while (at_ < character) byte_ += text_.characters[at_++].bytes();
    return byte_;
  }

 private:
  const Text& text_;
  int64_t at_ = 0, byte_;
};

}  // namespace puna
