// Attention over a paged cache: every query of a key-value head shares one read of keys and values. The softmax
// goes along: when a greater score comes, what was summed before is scaled down. Written once for both kinds of
// Number a cache may hold: bf16 (uint16_t), summed in fp32, and codes (int8_t), summed in 32 bits without loss.

constexpr int FETCHED = 4;  // pages between what is read and what is fetched meanwhile

template <class Number>
struct Held {
  static constexpr bool CODED = false;
  using Sum = Floats;
  using Factor = uint16_t;  // what it is multiplied with
};
template <>
struct Held<int8_t> {
  static constexpr bool CODED = true;
  using Sum = Ints;
  using Factor = int16_t;
};
template <class Number>
constexpr bool IS_CODE = Held<Number>::CODED;
template <class Number>
using Factor = typename Held<Number>::Factor;

// Numbers (n,) as whole ones up to the largest Code, to the nearest; gives what these are to be multiplied by, NaN
// where a number is not finite.
template <class Code>
float code(const float* numbers, int64_t n, Code* out) {
  constexpr float TOP = std::numeric_limits<Code>::max();
  Floats most = zero(), broken = zero();
  for (int64_t i = 0; i < n; i += 16) {
    const Floats x = load(numbers + i);
    most = larger(most, absolute(x)), broken = fma(x, zero(), broken);
  }
  const float top = largest(most);
  const Floats up = every(top > 1e-30f ? TOP / top : 0);  // of less, the quotient would not be finite
  for (int64_t i = 0; i < n; i += 16) store_codes(out + i, nearest(mul(load(numbers + i), up)));
  return top / TOP + sum(broken);
}

// Where positions lie, and what is fetched meanwhile: what is read some pages later, or this again if nothing is, as
// pages do not lie side by side: without it the memory is read at half the speed.
template <class Number>
struct Place {
  const Number *numbers, *next;
  const float* scales;  // of each position, after a page's codes
};

template <class Number>
inline const Number* numbers_of(const Heads& h, const uint8_t* from, int position) {
  const uint8_t* page = from + h.pages[position / h.page] * h.stride;
  return reinterpret_cast<const Number*>(page) + static_cast<int64_t>(position % h.page) * h.width;
}

inline const float* scales_of(const Heads& h, const uint8_t* from, int position) {
  const uint8_t* page = from + h.pages[position / h.page] * h.stride;
  return reinterpret_cast<const float*>(page + static_cast<int64_t>(h.page) * h.width) + position % h.page;
}

template <class Number>
inline Place<Number> place_of(const Heads& h, const uint8_t* from, int position) {
  const int then = position + FETCHED * h.page, later = then < h.seen[h.rows - 1] ? then : position;
  Place<Number> place{numbers_of<Number>(h, from, position), numbers_of<Number>(h, from, later), nullptr};
  if constexpr (IS_CODE<Number>) {
    place.scales = scales_of(h, from, position);
    fetch_far(scales_of(h, from, later));
  }
  return place;
}

template <class Number>
inline typename Held<Number>::Sum nothing() {
  if constexpr (IS_CODE<Number>) return ints(0);
  else return zero();
}

// Scores of T times 16 positions of a page for R queries: keys lie as weights do, so lanes are positions. More than
// one sum at a time hides how long each addition takes.
template <class Number, int R, int T>
inline void score_tiles(const Heads& h, const Place<Number>& keys, int row, float* scores) {
  constexpr int LINE = 64 / (16 * sizeof(Number));  // inputs that are fetched at once
  typename Held<Number>::Sum total[R][T];
  for (auto& sums : total) {
    for (auto& t : sums) t = nothing<Number>();
  }
  const auto* queries = reinterpret_cast<const Factor<Number>*>(h.queries) + row * h.width;
  for (int line = 0; line < h.width; line += LINE) {
    for (int t = 0; t < T; t++) fetch_far(keys.next + (t * h.width + line) * 16);
#pragma GCC unroll 2
    for (int d = line; d < line + LINE; d += 2) {
      for (int r = 0; r < R; r++) {
        const Factor<Number>* query = queries + r * h.width + d;
        for (int t = 0; t < T; t++) {
          total[r][t] = dot_pairs(total[r][t], keys.numbers + (t * h.width + d) * 16, query);
        }
      }
    }
  }
  for (int r = 0; r < R; r++) {
    for (int t = 0; t < T; t++) {
      float* to = scores + r * PART + 16 * t;
      if constexpr (IS_CODE<Number>) {
        store(to, mul(floats(total[r][t]), mul(every(h.scales[row + r]), load(keys.scales + 16 * t))));
      } else {
        store(to, total[r][t]);
      }
    }
  }
}

template <class Number, int T>
inline void score_rows(const Heads& h, const Place<Number>& keys, float* to) {
  int row = 0;
  for (; row + 4 <= h.rows; row += 4) score_tiles<Number, 4, T>(h, keys, row, to + row * PART);
  switch (h.rows - row) {
    case 1: return score_tiles<Number, 1, T>(h, keys, row, to + row * PART);
    case 2: return score_tiles<Number, 2, T>(h, keys, row, to + row * PART);
    case 3: return score_tiles<Number, 3, T>(h, keys, row, to + row * PART);
    default: return;
  }
}

template <class Number>
void scores_of(const Heads& h, int begin, int end, float* scores) {
  for (int t = begin; t < end;) {
    const bool two = t % h.page + 32 <= h.page && t + 16 < end;
    if constexpr (IS_CODE<Number>) fetch_far(scales_of(h, h.values, t));  // asked for when all are scored
    (two ? score_rows<Number, 2> : score_rows<Number, 1>)(h, place_of<Number>(h, h.keys, t), scores + (t - begin));
    t += two ? 32 : 16;
  }
}

// Weights of positions from `begin`, of which the last are not a row's own, with the scales of their values as whole
// numbers; gives what these are to be multiplied by.
inline float code_weights(const Heads& h, int begin, int own, int whole, float* weights, int16_t* codes) {
  for (int t = 0; t < whole; t += 16) {
    store(weights + t, mul(load(weights + t), load(scales_of(h, h.values, begin + t))));
  }
  for (int t = own; t < whole; t++) weights[t] = 0;  // whatever the scales there are
  return code(weights, whole, codes);
}

// Scores of row r of `count` positions become weights; what was mixed before is scaled to the new maximum. Gives what
// weights in whole numbers are to be multiplied by.
template <class Number>
float weigh(const Heads& h, const Mixed& mixed, int r, int begin, int count, float* scores, Factor<Number>* weights) {
  const int own = std::min(count, std::max(0, h.seen[r] - begin)), whole = (count + 15) / 16 * 16;
  for (int t = own; t < whole; t++) scores[t] = -1e30f;
  Floats most = every(-1e30f);
  for (int t = 0; t < whole; t += 16) most = larger(most, load(scores + t));
  const float before = mixed.most[r], now = std::max(before, largest(most));
  if (own == 0) {
    std::memset(weights, 0, static_cast<size_t>(whole) * 2);
    return 0;
  }
  Floats total = zero();
  for (int t = 0; t < whole; t += 16) {
    const Floats e = exponential(sub(load(scores + t), every(now)));
    store(scores + t, e);
  }
  for (int t = own; t < whole; t++) scores[t] = 0;
  for (int t = 0; t < whole; t += 16) {
    const Floats e = load(scores + t);
    total = add(total, e);
    if constexpr (!IS_CODE<Number>) store_bf16(weights + t, e);
  }
  const float shrink = before == now ? 1 : std::exp(before - now);
  if (shrink != 1) {
    float* out = mixed.out + r * h.width;
    for (int d = 0; d < h.width; d += 16) store(out + d, mul(load(out + d), every(shrink)));
  }
  mixed.most[r] = now, mixed.total[r] = mixed.total[r] * shrink + sum(total);
  if constexpr (IS_CODE<Number>) return code_weights(h, begin, own, whole, scores, weights);
  return 1;
}

// Rows' weights (R, PART) and what they are to be multiplied by (R,).
template <class Number>
struct Weights {
  const Factor<Number>* numbers;
  const float* scales;
};

// out (R, 16 * W of Dh) += weights times the values of `count` positions, two at a time.
template <class Number, int R, int W>
inline void mix_tile(const Number* values, const Number* next, int width, const Weights<Number>& weights, int count,
                     float* out) {
  typename Held<Number>::Sum total[R][W];
  for (int r = 0; r < R; r++) {
    for (int w = 0; w < W; w++) {
      if constexpr (IS_CODE<Number>) total[r][w] = ints(0);
      else total[r][w] = load(out + r * width + 16 * w);
    }
  }
  for (int t = 0; t < count; t += 2) {
    for (int w = 0; w < W; w++) {
      const Number* both = values + t * width + 32 * w;
      if (w * sizeof(Number) % 2 == 0) fetch_far(next + t * width + 32 * w);  // a line of 64 bytes, once
      for (int r = 0; r < R; r++) total[r][w] = dot_pairs(total[r][w], both, weights.numbers + r * PART + t);
    }
  }
  for (int r = 0; r < R; r++) {
    for (int w = 0; w < W; w++) {
      float* to = out + r * width + 16 * w;
      if constexpr (IS_CODE<Number>) store(to, fma(floats(total[r][w]), every(weights.scales[r]), load(to)));
      else store(to, total[r][w]);
    }
  }
}

template <class Number, int R>
void mix_rows(const Heads& h, const Weights<Number>& weights, int row, int begin, int end, float* out) {
  const float* scales = weights.scales + row;
  out += row * h.width;
  for (int t = begin; t < end;) {
    const int stop = std::min(end, (t / h.page + 1) * h.page);
    const Place<Number> place = place_of<Number>(h, h.values, t);
    const Number *values = place.numbers, *next = place.next;
    const Weights<Number> own{weights.numbers + row * PART + (t - begin), scales};
    int d = 0;
    for (; d + 64 <= h.width; d += 64) {
      mix_tile<Number, R, 4>(values + 2 * d, next + 2 * d, h.width, own, stop - t, out + d);
    }
    for (; d < h.width; d += 16) {
      mix_tile<Number, R, 1>(values + 2 * d, next + 2 * d, h.width, own, stop - t, out + d);
    }
    t = stop;
  }
}

template <class Number>
void attend(const Heads& h, const Mixed& mixed, float* room) {
  float *scores = room, *scales = room + 3 * MOST_ROWS * PART / 2;
  auto* weights = reinterpret_cast<Factor<Number>*>(room + MOST_ROWS * PART);
  for (int r = 0; r < h.rows; r++) mixed.most[r] = -1e30f, mixed.total[r] = 0;
  std::memset(mixed.out, 0, sizeof(float) * static_cast<size_t>(h.rows * h.width));
  const int last = std::min(h.last, h.seen[h.rows - 1]);
  for (int begin = h.first; begin < last; begin += PART) {
    const int end = std::min(last, begin + PART), even = (end + 1) / 2 * 2;
    scores_of<Number>(h, begin, end, scores);
    for (int r = 0; r < h.rows; r++) {
      scales[r] = weigh<Number>(h, mixed, r, begin, end - begin, scores + r * PART, weights + r * PART);
    }
    const Weights<Number> all{weights, scales};
    int r = 0;
    for (; r + 4 <= h.rows; r += 4) mix_rows<Number, 4>(h, all, r, begin, even, mixed.out);
    switch (h.rows - r) {
      case 1: mix_rows<Number, 1>(h, all, r, begin, even, mixed.out); break;
      case 2: mix_rows<Number, 2>(h, all, r, begin, even, mixed.out); break;
      case 3: mix_rows<Number, 3>(h, all, r, begin, even, mixed.out); break;
    }
  }
}
