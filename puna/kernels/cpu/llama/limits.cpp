// What this machine can do: how fast all threads together read memory, which is what decoding is held against, and how
// fast they multiply bytes, which is what reading a prompt is held against.
#include <algorithm>
#include <chrono>

#include "model.h"

namespace puna::llama {

double bandwidth(int threads) {
  constexpr int64_t SIZE = 256 << 20, PIECE = 1 << 20, ROUNDS = 6;
  const Arena arena(SIZE);
  auto* words = reinterpret_cast<uint64_t*>(arena.data());
  for (int64_t i = 0; i < SIZE / 8; i++) words[i] = static_cast<uint64_t>(i);
  Pool pool(threads);
  std::vector<uint64_t> sums(static_cast<size_t>(pool.threads()) * 64);  // a line of the cache and more for each
  const std::function<void(int)> read = [&](int t) {
    pool.share(t, SIZE / PIECE, [&](int64_t n) {
      const uint64_t* from = words + n * (PIECE / 8);
      uint64_t sum[16] = {};
      for (int64_t i = 0; i < PIECE / 8; i += 16) {
        for (int j = 0; j < 16; j++) sum[j] += from[i + j];
      }
      for (uint64_t s : sum) sums[static_cast<size_t>(t) * 64] += s;
    });
  };
  double best = 0;
  for (int64_t n = 0; n < ROUNDS; n++) {
    const auto begun = std::chrono::steady_clock::now();
    pool.run(read);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    best = std::max(best, static_cast<double>(SIZE) / took.count());
  }
  return sums[0] == 1 ? 0 : best;  // the sums are of use, so the reading is not left out
}

double products(int threads) {
  constexpr int64_t ROUNDS = 6, TURNS = 200'000;
  const Kernels& k = kernels();
  Pool pool(threads);
  std::vector<int32_t> sums(static_cast<size_t>(pool.threads()) * 64);
  const std::function<void(int)> work = [&](int t) { sums[static_cast<size_t>(t) * 64] = k.busy(TURNS); };
  double best = 0;
  for (int64_t n = 0; n < ROUNDS; n++) {
    const auto begun = std::chrono::steady_clock::now();
    pool.run(work);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    best = std::max(best, static_cast<double>(pool.threads() * TURNS * BUSY_PRODUCTS) * 2 / took.count());
  }
  return sums[0] == 1 ? 0 : best;
}

}  // namespace puna::llama
