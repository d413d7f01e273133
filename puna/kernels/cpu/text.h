// The text kernels over (data, offsets); twins of puna/kernels/text_reference.py.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace puna {

struct Column {
  const uint8_t* data;
  const int64_t* offsets;
  int64_t rows;
};

struct LineColumns {
  std::vector<uint64_t> hashes;
  std::vector<int32_t> lengths;
  std::vector<int64_t> starts, ends, offsets;
};

struct MarkColumns {
  std::vector<int32_t> pieces, longest, sentences;
  std::vector<uint8_t> marks;
  std::vector<int64_t> starts, ends, offsets;
};

constexpr int COUNTERS = 32;

LineColumns line_hashes(Column texts);
MarkColumns line_marks(Column texts);
std::vector<int64_t> counters(Column texts, const std::vector<uint64_t>& stop_words, int64_t short_line,
                              bool repeats);

struct Spans {
  const int64_t *starts, *ends;
};
// New texts from the spans offsets[i] to offsets[i + 1]; their own offsets go to `places`.
std::vector<uint8_t> join_spans(const uint8_t* data, Spans spans, const int64_t* offsets, int64_t rows,
                                bool feeds, std::vector<int64_t>& places);

struct Permutations {
  const uint32_t *multiply, *add;
  int64_t count;
};
// `instructions`: one of instruction_sets(), or "" for the widest. All give the same.
std::vector<uint32_t> minhash(Column texts, Permutations permutations, int64_t n, int64_t fewest,
                              const std::string& instructions);
std::vector<std::string> instruction_sets();  // that this machine has, the widest first

}  // namespace puna
