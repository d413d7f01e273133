// What repeats in a text: a set that forgets in one step, and n-grams by differences of one polynomial.
#pragma once
#include "reading.h"

namespace puna {

// Hashes seen and how often. Entries of an older stamp are empty, so it is never cleared between texts.
class Seen {
 public:
  void begin(size_t most) {
    size_t size = 16;
    while (size < 2 * most) size *= 2;
    if (size > entries_.size() || ++stamp_ == 0)
      entries_.assign(std::max(size, entries_.size()), {0, 0, 0}), stamp_ = 1;
    mask_ = size - 1;
  }

  // How often `hash` has come, this time included.
  uint32_t count(uint64_t hash) {
    size_t at = place(hash);
    if (entries_[at].stamp != stamp_) entries_[at] = {hash, stamp_, 0};
    return ++entries_[at].count;
  }

  // How often it has come.
  uint32_t times(uint64_t hash) const {
    const Entry& entry = entries_[place(hash)];
    return entry.stamp == stamp_ ? entry.count : 0;
  }

 private:
  struct Entry {
    uint64_t hash;
    uint32_t stamp, count;
  };
  std::vector<Entry> entries_;
  size_t mask_ = 0;
  uint32_t stamp_ = 0;

  size_t place(uint64_t hash) const {
    size_t at = hash & mask_;
    while (entries_[at].stamp == stamp_ && entries_[at].hash != hash) at = (at + 1) & mask_;
    return at;
  }
};

// Hashes and sizes of runs of words, in one step each.
class Runs {
 public:
  int64_t count = 0;

  void read(const std::vector<Word>& words) {
    sum(static_cast<int64_t>(words.size()), [&](int64_t i) { return words[i].hash; });
    sizes_.resize(count + 1), sizes_[0] = 0;
    for (int64_t i = 0; i < count; i++) sizes_[i + 1] = sizes_[i] + words[i].behind - words[i].first;
  }

  // Without characters.
  void read(const uint64_t* hashes, int64_t words) {
    sum(words, [&](int64_t i) { return hashes[i]; });
  }

  static uint64_t power(int64_t n) {
    uint64_t product = 1;
    for (int64_t i = 0; i < n; i++) product *= GOLDEN;
    return product;
  }

  uint64_t hash(int64_t i, int64_t n, uint64_t power) const { return mix(sums_[i + n] - sums_[i] * power); }
  int64_t characters(int64_t i, int64_t n) const { return sizes_[i + n] - sizes_[i]; }

  // Characters of all places of the most frequent n-gram, the first such; `repeats` says whether any comes
  // twice.
  int64_t most_frequent(int64_t n, Seen& seen, bool& repeats) const {
    const uint64_t factor = power(n);
    if (count < n) return repeats = false;
    int64_t most = 1, first = 0;
    if (repeats) seen.begin(count);
    for (int64_t i = 0; repeats && i + n <= count; i++)
      most = std::max<int64_t>(most, seen.count(hash(i, n, factor)));
    while (most > 1 && seen.times(hash(first, n, factor)) < most) first++;
    repeats = most > 1;
    return most * (characters(first, n) + n - 1);
  }

  // Characters of n-grams that were there before, going on behind each one found.
  int64_t repeated(int64_t n, Seen& seen) const {
    const uint64_t factor = power(n);
    int64_t found = 0;
    seen.begin(count);
    for (int64_t i = 0; i + n <= count;) {
      bool again = seen.count(hash(i, n, factor)) > 1;
      found += again ? characters(i, n) : 0;
      i += again ? n : 1;
    }
    return found;
  }

 private:
  std::vector<uint64_t> sums_;
  std::vector<int64_t> sizes_;

  template <class Hash>
  void sum(int64_t words, Hash hash) {
    count = words;
    sums_.resize(count + 1), sums_[0] = 0;
    for (int64_t i = 0; i < count; i++) sums_[i + 1] = sums_[i] * GOLDEN + hash(i);
  }
};

}  // namespace puna
