// Words of texts by four meanings, and what is asked of runs of them; twins of puna/kernels/text_reference.py.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "text.h"

namespace puna {

struct Words {
  std::vector<uint64_t> hashes;
  std::vector<int64_t> starts, ends, first;
};

// `meaning`: plain, digits_alike, normal or signs.
Words words(Column texts, const std::string& meaning);

// The words of some texts by their hashes: text i has first[i] to first[i + 1].
struct Hashes {
  const uint64_t* hashes;
  const int64_t* first;
  int64_t rows;
};

struct RunColumns {
  std::vector<uint64_t> hashes;
  std::vector<int64_t> words, offsets;
};

RunColumns runs(Hashes words, int64_t n);
std::vector<uint8_t> said_before(Hashes words, int64_t n, int64_t times);
RunColumns sets(Hashes rows);  // without words
std::vector<int64_t> shared(Hashes sets, const int64_t* left, const int64_t* right, int64_t pairs);

struct Known {
  const uint64_t* hashes;  // rising
  int64_t count;
  const uint8_t* sieve;  // bit (hash >> shift) is set for each of them
  int shift;

  int64_t place(uint64_t hash) const;  // among them, or -1
};

struct Hits {
  std::vector<int64_t> which, places;
  void add(int64_t asked, int64_t place) {
    if (place >= 0) which.push_back(asked), places.push_back(place);
  }
};
Hits lookup(const uint64_t* hashes, int64_t count, Known known);
Hits known_runs(Hashes words, int64_t n, Known known);  // which: the word that the run begins with

}  // namespace puna
