// MinHash: the one loop here that is arithmetic only, so it is compiled once for each instruction set.
#include <cstring>

#include "counting.h"
#include "text.h"

namespace puna {

namespace {

constexpr int64_t LANES = 16;  // permutations come in multiples of the widest register
typedef uint32_t Four __attribute__((vector_size(16)));
typedef uint32_t Eight __attribute__((vector_size(32)));
typedef uint32_t Sixteen __attribute__((vector_size(64)));

struct Work {
  const uint32_t* shingles;
  int64_t count;
  const uint32_t *multiply, *add;
  uint32_t* least;
  int64_t permutations;
};

template <class Lanes>
inline __attribute__((always_inline)) void least_of(const Work& work) {
  for (int64_t k = 0; k < work.permutations; k += sizeof(Lanes) / 4) {
    Lanes m, a, low = ~(Lanes{});
    std::memcpy(&m, work.multiply + k, sizeof m);
    std::memcpy(&a, work.add + k, sizeof a);
    for (int64_t s = 0; s < work.count; s++) {
      Lanes x = work.shingles[s] * m + a;
      x ^= x >> 15;
      low = x < low ? x : low;
    }
    std::memcpy(work.least + k, &low, sizeof low);
  }
}

typedef void Least(const Work&);

void portable(const Work& work) { least_of<Four>(work); }
#if defined(__x86_64__)
__attribute__((target("avx2"))) void avx2(const Work& work) { least_of<Eight>(work); }
__attribute__((target("avx512f"))) void avx512(const Work& work) { least_of<Sixteen>(work); }
#endif

Least* chosen(const std::string& instructions) {
#if defined(__x86_64__)
  if (instructions == "avx512") return avx512;
  if (instructions == "avx2") return avx2;
#endif
  return portable;
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> sets;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) sets.push_back("avx512");
  if (__builtin_cpu_supports("avx2")) sets.push_back("avx2");
#endif
  sets.push_back("portable");
  return sets;
}

std::vector<uint32_t> minhash(Column texts, Permutations given, int64_t n, int64_t fewest,
                              const std::string& instructions) {
  const int64_t count = given.count, permutations = (count + LANES - 1) / LANES * LANES;
  std::vector<uint32_t> m(given.multiply, given.multiply + count), a(given.add, given.add + count);
  std::vector<uint32_t> least(permutations);
  m.resize(permutations), a.resize(permutations);
  Least* const least_here = chosen(instructions.empty() ? instruction_sets().front() : instructions);
  std::vector<uint32_t> signatures(texts.rows * count), shingles;
  Text text;
  Runs runs;
  const uint64_t whole = Runs::power(n);
  for (int64_t row = 0; row < texts.rows; row++) {
    text.read(texts.data + texts.offsets[row], texts.offsets[row + 1] - texts.offsets[row]);
    text.find_words();
    runs.read(text.words);
    const int64_t size = runs.count < fewest ? 0 : std::min(n, runs.count);
    const uint64_t power = size == n ? whole : Runs::power(size);
    shingles.clear();
    for (int64_t i = 0; size && i + size <= runs.count; i++)
      shingles.push_back(static_cast<uint32_t>(runs.hash(i, size, power) >> 32));
    const auto found = static_cast<int64_t>(shingles.size());
    least_here({shingles.data(), found, m.data(), a.data(), least.data(), permutations});
    std::copy(least.begin(), least.begin() + count, signatures.begin() + row * count);
  }
  return signatures;
}

}  // namespace puna
