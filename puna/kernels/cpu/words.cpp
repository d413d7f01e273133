#include "words.h"

#include <algorithm>

#include "counting.h"
#include "normal.h"

namespace puna {

namespace {

// What normal.h says, a number for each character: what it folds to in 21 bits, above them its kind.
enum NormalKind : uint32_t { BREAK, PART, WHOLE, SIGN, SEVERAL };
constexpr int KIND_AT = 24;
constexpr uint32_t FOLDED = 0x1FFFFF, SYLLABLES = 0xAC00, SYLLABLES_END = 0xD7A4;

struct NormalTable {
  std::vector<uint32_t> entries, pool;  // SEVERAL: how many stand in the pool, then those

  NormalTable() : entries(EVERY) {
    std::vector<uint32_t> kinds(EVERY, BREAK);
    for (const KindRange& range : NORMAL_KINDS)
      std::fill(kinds.begin() + range.first, kinds.begin() + range.last + 1,
                range.kind == 'L' ? PART : range.kind == 'H' ? WHOLE : SIGN);
    auto entry = [&](uint32_t code) { return code | kinds[code] << KIND_AT; };
    for (uint32_t code = 0; code < EVERY; code++) entries[code] = entry(code);
    for (const FoldRange& range : NORMAL_FOLDS)
      for (uint32_t code = range.first; code <= range.last; code += range.step)
        entries[code] = entry(code + range.add);
    auto several = [&](uint32_t code, const std::u32string& text) {
      entries[code] = static_cast<uint32_t>(pool.size()) | SEVERAL << KIND_AT;
      pool.push_back(static_cast<uint32_t>(text.size()));
      for (char32_t folded : text) pool.push_back(entry(folded));
    };
    for (const FoldText& fold : NORMAL_TEXTS) several(fold.code, fold.text);
    for (uint32_t code = SYLLABLES; code < SYLLABLES_END; code++) {
      const uint32_t number = code - SYLLABLES, last = number % 28;
      std::u32string letters{0x1100 + number / 588, 0x1161 + number / 28 % 21};
      if (last) letters.push_back(0x11A7 + last);
      several(code, letters);
    }
  }
};

const NormalTable& normal_table() {
  static const NormalTable made;
  return made;
}

// Puts normal words together, character by folded character.
class NormalWords {
 public:
  NormalWords(Words& found, bool signs) : found_(found), signs_(signs) {}

  void read(const uint8_t* at, int64_t bytes, int64_t first) {
    const uint32_t* entries = table_.entries.data();
    for (const uint8_t *next = at, *end = at + bytes; next < end;) {
      const int64_t start = first + (next - at);
      uint32_t code = *next, length = 1;
      if (code >= 0x80) length = sequence(next, end, code);
      if (!length) code = REPLACEMENT, length = 1;
      next += length;
      const uint32_t entry = entries[code];
      if (entry >> KIND_AT != SEVERAL) {
        put(entry, start, start + length);
        continue;
      }
      const uint32_t* folded = table_.pool.data() + (entry & FOLDED);
      for (uint32_t i = 1; i <= folded[0]; i++) put(folded[i], start, start + length);
    }
    close();
  }

 private:
  const NormalTable& table_ = normal_table();
  Words& found_;
  bool signs_;
  uint32_t last_ = BREAK;
  uint64_t hash_ = 0, power_ = 0;
  int64_t start_ = 0, end_ = 0;

  void put(uint32_t entry, int64_t start, int64_t end) {
    uint32_t kind = entry >> KIND_AT;
    if (kind == SIGN && !signs_) kind = BREAK;
    if (kind != last_ || kind == WHOLE) {
      close();
      start_ = start, hash_ = 0, power_ = GOLDEN, last_ = kind;
    }
    hash_ += ((entry & FOLDED) + 1) * power_, power_ *= GOLDEN, end_ = end;
  }

  void close() {
    if (last_ != BREAK) {
      uint64_t h = (hash_ ^ hash_ >> 31) * 0x7FB5D329728EA185;
      h = (h ^ h >> 27) * 0x81DADEF4BC2DD44D;
      found_.hashes.push_back(h ^ h >> 33);
      found_.starts.push_back(start_), found_.ends.push_back(end_);
    }
    last_ = BREAK;
  }
};

void plain_words(Column texts, bool digits_alike, Words& found) {
  Text text;
  for (int64_t row = 0; row < texts.rows; row++) {
    const int64_t first = texts.offsets[row];
    text.read(texts.data + first, texts.offsets[row + 1] - first);
    text.digits_alike = digits_alike;
    text.find_words();
    Places places(text, first);
    for (const Word& word : text.words) {
      found.hashes.push_back(word.hash);
      found.starts.push_back(places.of(word.first)), found.ends.push_back(places.of(word.behind));
    }
    found.first.push_back(static_cast<int64_t>(found.hashes.size()));
  }
}

}  // namespace

Words words(Column texts, const std::string& meaning) {
  Words found;
  found.first.push_back(0);
  const auto many = static_cast<size_t>(texts.offsets[texts.rows] - texts.offsets[0]) / 5;  // as prose has
  found.hashes.reserve(many), found.starts.reserve(many), found.ends.reserve(many);
  if (meaning == "plain" || meaning == "digits_alike") {
    plain_words(texts, meaning == "digits_alike", found);
    return found;
  }
  NormalWords reading(found, meaning == "signs");
  for (int64_t row = 0; row < texts.rows; row++) {
    reading.read(texts.data + texts.offsets[row], texts.offsets[row + 1] - texts.offsets[row],
                 texts.offsets[row]);
    found.first.push_back(static_cast<int64_t>(found.hashes.size()));
  }
  return found;
}

RunColumns runs(Hashes words, int64_t n) {
  RunColumns found;
  Runs reading;
  const uint64_t power = Runs::power(n);
  const int64_t most = words.first[words.rows] - words.first[0];
  found.hashes.reserve(most), found.words.reserve(most);
  found.offsets.push_back(0);
  for (int64_t row = 0; row < words.rows; row++) {
    const int64_t first = words.first[row];
    reading.read(words.hashes + first, words.first[row + 1] - first);
    for (int64_t i = 0; i + n <= reading.count; i++)
      found.hashes.push_back(reading.hash(i, n, power)), found.words.push_back(first + i);
    found.offsets.push_back(static_cast<int64_t>(found.hashes.size()));
  }
  return found;
}

std::vector<uint8_t> said_before(Hashes words, int64_t n, int64_t times) {
  std::vector<uint8_t> said(words.first[words.rows] - words.first[0]);
  Runs reading;
  Seen seen;
  const uint64_t power = Runs::power(n);
  auto out = said.begin();
  for (int64_t row = 0; row < words.rows; row++) {
    reading.read(words.hashes + words.first[row], words.first[row + 1] - words.first[row]);
    seen.begin(reading.count);
    for (int64_t i = 0, until = 0; i < reading.count; i++) {
      if (i + n <= reading.count && seen.count(reading.hash(i, n, power)) > times) until = i + n;
      *out++ = i < until;
    }
  }
  return said;
}

RunColumns sets(Hashes rows) {
  RunColumns found;
  std::vector<uint64_t> row_hashes;
  found.offsets.push_back(0);
  for (int64_t row = 0; row < rows.rows; row++) {
    row_hashes.assign(rows.hashes + rows.first[row], rows.hashes + rows.first[row + 1]);
    std::sort(row_hashes.begin(), row_hashes.end());
    const auto end = std::unique(row_hashes.begin(), row_hashes.end());
    found.hashes.insert(found.hashes.end(), row_hashes.begin(), end);
    found.offsets.push_back(static_cast<int64_t>(found.hashes.size()));
  }
  return found;
}

std::vector<int64_t> shared(Hashes sets, const int64_t* left, const int64_t* right, int64_t pairs) {
  std::vector<int64_t> counts(pairs);
  for (int64_t pair = 0; pair < pairs; pair++) {
    const uint64_t *a = sets.hashes + sets.first[left[pair]], *a_end = sets.hashes + sets.first[left[pair] + 1];
    const uint64_t *b = sets.hashes + sets.first[right[pair]];
    const uint64_t *b_end = sets.hashes + sets.first[right[pair] + 1];
    while (a < a_end && b < b_end) {
      const uint64_t x = *a, y = *b;
      counts[pair] += x == y, a += x <= y, b += y <= x;
    }
  }
  return counts;
}

int64_t Known::place(uint64_t hash) const {
  const uint64_t bit = hash >> shift;
  if (!(sieve[bit >> 3] >> (bit & 7) & 1)) return -1;
  const uint64_t* at = std::lower_bound(hashes, hashes + count, hash);
  return at == hashes + count || *at != hash ? -1 : at - hashes;
}

Hits lookup(const uint64_t* hashes, int64_t count, Known known) {
  Hits found;
  for (int64_t i = 0; i < count; i++) found.add(i, known.place(hashes[i]));
  return found;
}

Hits known_runs(Hashes words, int64_t n, Known known) {
  Hits found;
  Runs reading;
  const uint64_t power = Runs::power(n);
  for (int64_t row = 0; row < words.rows; row++) {
    const int64_t first = words.first[row];
    reading.read(words.hashes + first, words.first[row + 1] - first);
    for (int64_t i = 0; i + n <= reading.count; i++)
      found.add(first + i, known.place(reading.hash(i, n, power)));
  }
  return found;
}

}  // namespace puna
