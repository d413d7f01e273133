// Which token comes next: the rules of puna/engine/sample.py, in one call over a row of logits.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace puna::llama {

struct Rules {  // as in puna/engine/request.py; null: there is none
  double temperature, top_p, min_p, repetition, presence, frequency;
  int64_t top_k;
  const bool* seen;        // (V,)
  const double *written;   // (V,) times
  const double *bias;      // (V,)
  const int32_t* allowed;  // a bit for each id
};

struct Kernels;

// The id that `uniform`, of [0, 1), chooses; -1 where the greatest logit is not finite.
int64_t choose(const Kernels& kernels, const float* logits, int64_t n, const Rules& rules, double uniform);

// log of the sum of exp of all logits, and the ids of the k greatest of the first `size`, greatest first, without
// those at minus infinity. NaN and none where the greatest logit is not finite.
std::pair<double, std::vector<int64_t>> odds(const Kernels& kernels, const float* logits, int64_t n, int64_t size, int64_t k);

}  // namespace puna::llama
