// Attention over a paged cache: every query of a key-value head shares one read of keys and values. The softmax
// goes along: when a greater score comes, what was summed before is scaled down.

constexpr int FETCHED = 4;  // pages between what is read and what is fetched meanwhile

// Scores of T times 16 positions of a page for R queries: keys lie as weights do, so lanes are positions. More than
// one sum at a time hides how long each addition takes. `next`: what is read some pages later, fetched
// along, as pages do not lie side by side: without it the memory is read at half the speed.
template <int R, int T>
inline void score_tiles(const Heads& h, const uint16_t* keys, const uint16_t* next, int row, float* scores) {
  Floats total[R][T];
  for (auto& sums : total) {
    for (auto& t : sums) t = zero();
  }
  for (int d = 0; d < h.width; d += 2) {
    for (int t = 0; t < T; t++) fetch_far(next + (t * h.width + d) * 16);
    for (int r = 0; r < R; r++) {
      const uint16_t* query = h.queries + (row + r) * h.width + d;
      for (int t = 0; t < T; t++) total[r][t] = dot_pairs(total[r][t], keys + (t * h.width + d) * 16, query);
    }
  }
  for (int r = 0; r < R; r++) {
    for (int t = 0; t < T; t++) store(scores + r * PART + 16 * t, total[r][t]);
  }
}

template <int T>
inline void score_rows(const Heads& h, const uint16_t* keys, const uint16_t* next, float* to) {
  int row = 0;
  for (; row + 4 <= h.rows; row += 4) score_tiles<4, T>(h, keys, next, row, to + row * PART);
  switch (h.rows - row) {
    case 1: return score_tiles<1, T>(h, keys, next, row, to + row * PART);
    case 2: return score_tiles<2, T>(h, keys, next, row, to + row * PART);
    case 3: return score_tiles<3, T>(h, keys, next, row, to + row * PART);
    default: return;
  }
}

// out (R, 16 * W of Dh) += weights (R, PART) bf16 times the values of `count` positions, two at a time.
template <int R, int W>
inline void mix_tile(const uint16_t* values, const uint16_t* next, int width, const uint16_t* weights, int count,
                     float* out) {
  Floats total[R][W];
  for (int r = 0; r < R; r++) {
    for (int w = 0; w < W; w++) total[r][w] = load(out + r * width + 16 * w);
  }
  for (int t = 0; t < count; t += 2) {
    for (int w = 0; w < W; w++) {
      const uint16_t* both = values + t * width + 32 * w;
      fetch_far(next + t * width + 32 * w);
      for (int r = 0; r < R; r++) total[r][w] = dot_pairs(total[r][w], both, weights + r * PART + t);
    }
  }
  for (int r = 0; r < R; r++) {
    for (int w = 0; w < W; w++) store(out + r * width + 16 * w, total[r][w]);
  }
}

inline const uint16_t* page_of(const Heads& h, const uint16_t* from, int position) {
  return from + h.pages[position / h.page] * h.stride + static_cast<int64_t>(position % h.page) * h.width;
}

// Where the same place lies some pages on, or this one if nothing is read there: what to fetch meanwhile.
inline const uint16_t* later(const Heads& h, const uint16_t* from, int position) {
  const int then = position + FETCHED * h.page;
  return page_of(h, from, then < h.seen[h.rows - 1] ? then : position);
}

void scores_of(const Heads& h, int begin, int end, float* scores) {
  for (int t = begin; t < end;) {
    const bool two = t % h.page + 32 <= h.page && t + 16 < end;
    (two ? score_rows<2> : score_rows<1>)(h, page_of(h, h.keys, t), later(h, h.keys, t), scores + (t - begin));
    t += two ? 32 : 16;
  }
}

// Scores of row r of `count` positions become weights, in bf16; what was mixed before is scaled to the new maximum.
void weigh(const Heads& h, const Mixed& mixed, int r, int begin, int count, float* scores, uint16_t* weights) {
  const int own = std::min(count, std::max(0, h.seen[r] - begin)), whole = (count + 15) / 16 * 16;
  for (int t = own; t < whole; t++) scores[t] = -1e30f;
  Floats most = every(-1e30f);
  for (int t = 0; t < whole; t += 16) most = larger(most, load(scores + t));
  const float before = mixed.most[r], now = std::max(before, largest(most));
  if (own == 0) {
    std::memset(weights, 0, static_cast<size_t>(whole) * 2);
    return;
  }
  Floats total = zero();
  for (int t = 0; t < whole; t += 16) {
    const Floats e = exponential(sub(load(scores + t), every(now)));
    store(scores + t, e);
  }
  for (int t = own; t < whole; t++) scores[t] = 0;
  for (int t = 0; t < whole; t += 16) {
    const Floats e = load(scores + t);
    total = add(total, e), store_bf16(weights + t, e);
  }
  const float shrink = before == now ? 1 : std::exp(before - now);
  if (shrink != 1) {
    float* out = mixed.out + r * h.width;
    for (int d = 0; d < h.width; d += 16) store(out + d, mul(load(out + d), every(shrink)));
  }
  mixed.most[r] = now, mixed.total[r] = mixed.total[r] * shrink + sum(total);
}

template <int R>
void mix_rows(const Heads& h, const uint16_t* weights, int begin, int end, float* out) {
  for (int t = begin; t < end;) {
    const int stop = std::min(end, (t / h.page + 1) * h.page);
    const uint16_t *values = page_of(h, h.values, t), *next = later(h, h.values, t), *own = weights + (t - begin);
    int d = 0;
    for (; d + 64 <= h.width; d += 64) mix_tile<R, 4>(values + 2 * d, next + 2 * d, h.width, own, stop - t, out + d);
    for (; d < h.width; d += 16) mix_tile<R, 1>(values + 2 * d, next + 2 * d, h.width, own, stop - t, out + d);
    t = stop;
  }
}

void attend(const Heads& h, const Mixed& mixed, float* room) {
  float* scores = room;
  auto* weights = reinterpret_cast<uint16_t*>(room + MOST_ROWS * PART);
  for (int r = 0; r < h.rows; r++) mixed.most[r] = -1e30f, mixed.total[r] = 0;
  std::memset(mixed.out, 0, sizeof(float) * static_cast<size_t>(h.rows * h.width));
  const int last = std::min(h.last, h.seen[h.rows - 1]);
  for (int begin = h.first; begin < last; begin += PART) {
    const int end = std::min(last, begin + PART), even = (end + 1) / 2 * 2;
    scores_of(h, begin, end, scores);
    for (int r = 0; r < h.rows; r++) {
      weigh(h, mixed, r, begin, end - begin, scores + r * PART, weights + r * PART);
    }
    int r = 0;
    for (; r + 4 <= h.rows; r += 4) mix_rows<4>(h, weights + r * PART, begin, even, mixed.out + r * h.width);
    switch (h.rows - r) {
      case 1: mix_rows<1>(h, weights + r * PART, begin, even, mixed.out + r * h.width); break;
      case 2: mix_rows<2>(h, weights + r * PART, begin, even, mixed.out + r * h.width); break;
      case 3: mix_rows<3>(h, weights + r * PART, begin, even, mixed.out + r * h.width); break;
    }
  }
}
