// The sampler. A row is looked through in blocks: most rules concern a few great logits, and the greatest of each
// block tells where those are.
#include "sample.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels.h"

namespace puna::llama {

namespace {
constexpr double LEAST = -std::numeric_limits<double>::infinity();
constexpr int64_t FIRST = 64;  // of the head of the order, before more is looked at

struct Row {
  const Kernels* kernels = nullptr;
  int64_t n = 0, blocks = 0;
  std::vector<double> logits;      // (blocks * SIDE,), filled up with minus infinity
  std::vector<double> tops, sums;  // of blocks
  std::vector<double> order;       // room for finding a border
  double most = 0;

  void widen(const Kernels& by, const float* from, int64_t count) {
    kernels = &by, n = count, blocks = (n + SIDE - 1) / SIDE;
    logits.resize(static_cast<size_t>(blocks * SIDE)), tops.resize(static_cast<size_t>(blocks));
    for (int64_t i = 0; i < n; i++) logits[i] = from[i];
    std::fill(logits.begin() + n, logits.end(), LEAST);
  }

  // False: there is no finite greatest logit.
  bool measure() {
    kernels->tops(logits.data(), blocks, tops.data());
    most = LEAST;
    for (double top : tops) {
      if (std::isnan(top)) return false;
      most = std::max(most, top);
    }
    return std::isfinite(most);
  }

  double total(double per) {
    sums.resize(static_cast<size_t>(blocks));
    kernels->weigh(logits.data(), blocks, most, per, sums.data());
    double all = 0;
    for (double sum : sums) all += sum;
    return all;
  }

  int64_t best() const {
    const int64_t block = std::find(tops.begin(), tops.end(), most) - tops.begin();
    return std::find(logits.begin() + block * SIDE, logits.end(), most) - logits.begin();
  }

  // Ids whose logit is at least this, and more than minus infinity; rising.
  std::vector<int64_t> above(double border) const {
    std::vector<int64_t> ids;
    for (int64_t b = 0; b < blocks; b++) {
      if (!(tops[b] >= border) || tops[b] == LEAST) continue;
      for (int64_t i = b * SIDE; i < (b + 1) * SIDE; i++) {
        if (logits[i] >= border && logits[i] != LEAST) ids.push_back(i);
      }
    }
    return ids;
  }

  // The k greatest, greatest first; among equals the lower id first.
  std::vector<int64_t> head(int64_t k) {
    const auto before = [this](int64_t a, int64_t b) {
      return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    double border = LEAST;
    if (k < n) {  // at least k numbers are as great as the k greatest of some
      order = k <= blocks ? tops : logits;
      std::nth_element(order.begin(), order.begin() + (k - 1), order.end(), std::greater<>());
      border = order[k - 1];
    }
    std::vector<int64_t> ids = above(border);
    if (k < static_cast<int64_t>(ids.size())) {
      std::nth_element(ids.begin(), ids.begin() + k, ids.end(), before);
      ids.resize(static_cast<size_t>(k));
    }
    std::sort(ids.begin(), ids.end(), before);
    return ids;
  }
};

void punish(Row& row, const Rules& r) {
  for (int64_t i = 0; r.seen && i < row.n; i++) {
    double& x = row.logits[i];
    if (r.seen[i]) x = x > 0 ? x / r.repetition : x * r.repetition;
  }
  for (int64_t i = 0; r.written && i < row.n; i++) {
    row.logits[i] = row.logits[i] - r.presence * (r.written[i] > 0) - r.frequency * r.written[i];
  }
  for (int64_t i = 0; r.bias && i < row.n; i++) row.logits[i] += r.bias[i];
}

void forbid(Row& row, const int32_t* allowed) {
  for (int64_t first = 0; first < row.n; first += 32) {
    auto off = ~static_cast<uint32_t>(allowed[first / 32]);
    if (off == UINT32_MAX) std::fill_n(row.logits.begin() + first, 32, LEAST);
    else for (; off; off &= off - 1) row.logits[first + __builtin_ctz(off)] = LEAST;
  }
}

// Kept ids and what each weighs. Weights are of [0, 1], the best token's is 1.
struct Kept {
  std::vector<int64_t> ids;
  std::vector<double> weights;

  Kept(const Row& row, std::vector<int64_t> of, double temperature) : ids(std::move(of)), weights(ids.size()) {
    for (size_t i = 0; i < ids.size(); i++) weights[i] = std::exp((row.logits[ids[i]] - row.most) / temperature);
  }

  // How many of the order stand before the first that top-p drops.
  size_t nucleus(double most) const {
    double before = 0;
    size_t count = 0;
    while (count < ids.size() && before <= most) before += weights[count++];
    return count;
  }

  double total() const {
    double all = 0;
    for (double weight : weights) all += weight;
    return all;
  }
};

Kept nucleus(Row& row, const Rules& r, double per) {
  const double most = r.top_p * row.total(per);
  for (int64_t width = FIRST;; width *= 16) {
    const Kept kept(row, row.head(width), r.temperature);
    const size_t count = kept.nucleus(most);
    if (count < kept.ids.size() || static_cast<int64_t>(kept.ids.size()) < width) {
      return Kept(row, {kept.ids.begin(), kept.ids.begin() + static_cast<int64_t>(count)}, r.temperature);
    }
  }
}

int64_t drawn(const Row& row, Kept kept, double temperature, double uniform) {
  std::sort(kept.ids.begin(), kept.ids.end());
  kept = Kept(row, kept.ids, temperature);
  const double target = uniform * kept.total();
  double running = 0;
  int64_t chosen = -1;
  for (size_t i = 0; i < kept.ids.size(); i++) {
    if (kept.weights[i] == 0) continue;
    running += kept.weights[i], chosen = kept.ids[i];
    if (running > target) break;
  }
  return chosen;
}

// From the whole row: first the block, then the id in it.
int64_t drawn_from_all(Row& row, const Rules& r, double per, double uniform) {
  double target = uniform * row.total(per);
  int64_t block = 0, last = 0;
  for (int64_t b = 0; b < row.blocks; b++) {
    if (row.sums[b] > 0) last = b;
  }
  while (block < last && row.sums[block] <= target) target -= row.sums[block++];
  double running = 0;
  int64_t chosen = row.best();
  for (int64_t id = block * SIDE; id < (block + 1) * SIDE; id++) {
    const double weight = std::exp((row.logits[id] - row.most) / r.temperature);
    if (weight == 0) continue;
    running += weight, chosen = id;
    if (running > target) break;
  }
  return chosen;
}

Row& this_threads_row() {
  static thread_local Row row;
  return row;
}
}  // namespace

int64_t choose(const Kernels& kernels, const float* logits, int64_t n, const Rules& r, double uniform) {
  Row& row = this_threads_row();
  row.widen(kernels, logits, n);
  punish(row, r);
  if (r.allowed) forbid(row, r.allowed);
  if (!row.measure()) return -1;
  if (r.temperature == 0) return row.best();
  const double per = std::min(1 / r.temperature, DBL_MAX);
  const bool few = 0 < r.top_k && r.top_k < n;
  if (!few && r.top_p >= 1 && r.min_p == 0) return drawn_from_all(row, r, per, uniform);
  const double low = std::log(r.min_p);
  Kept kept = few ? Kept(row, row.head(r.top_k), r.temperature)
              : r.top_p < 1 ? nucleus(row, r, per)
                            : Kept(row, row.above(row.most + low * r.temperature * (1 + 1e-12)), r.temperature);
  if (few && r.top_p < 1) kept.ids.resize(kept.nucleus(r.top_p * kept.total()));
  if (r.min_p > 0) {
    const auto less = [&](int64_t id) { return (row.logits[id] - row.most) / r.temperature < low; };
    kept.ids.erase(std::remove_if(kept.ids.begin(), kept.ids.end(), less), kept.ids.end());
  }
  return drawn(row, std::move(kept), r.temperature, uniform);
}

std::pair<double, std::vector<int64_t>> odds(const Kernels& kernels, const float* logits, int64_t n, int64_t size, int64_t k) {
  Row& row = this_threads_row();
  row.widen(kernels, logits, n);
  if (!row.measure()) return {NAN, {}};
  const double log_sum = row.most + std::log(row.total(1));
  if (k == 0) return {log_sum, {}};
  std::fill(row.logits.begin() + size, row.logits.end(), LEAST);
  row.n = size;
  if (!row.measure()) return {log_sum, {}};
  return {log_sum, row.head(std::min(k, size))};
}

}  // namespace puna::llama
