// The kernels but attention, over the names of a lanes_*.h. Included within a namespace of its own.

// How a format's block is read: 8 groups of codes of sub-block s, and what its codes are multiplied by.
// ZERO: two to that is taken from each code (0: nothing is). LOW: the format adds a low to every value. HALVES: 16
// inputs have a scale of their own.
template <class Block>
struct Reader;

inline void four_bits(const uint8_t* codes, Bytes* w) {
  for (int g = 0; g < 4; g++) {
    const Bytes both = bytes(codes + 64 * g);
    w[g] = low_nibbles(both), w[g + 4] = high_nibbles(both);
  }
}
inline void five_bits(const uint8_t* codes, const uint8_t* high, Bytes* w) {
  four_bits(codes, w);
  for (int g = 0; g < 8; g++) w[g] = with_fifth(w[g], high + 8 * g);
}

struct OneBlock {
  static constexpr int SUBS = 1, ZERO = 0;
  static constexpr bool LOW = false, HALVES = false, WIDE = false, AHEAD = false;
};
struct SuperBlock : OneBlock {
  static constexpr int SUBS = 8;
};
template <>
struct Reader<Q4_0> : OneBlock {
  static constexpr int ZERO = 3;
  static void codes(const Q4_0& b, int, Bytes* w) { four_bits(b.codes, w); }
  static Floats scale(const Q4_0& b, int, int) { return halves(b.scale); }
};
template <>
struct Reader<Q4_1> : OneBlock {
  static constexpr bool LOW = true;
  static void codes(const Q4_1& b, int, Bytes* w) { four_bits(b.codes, w); }
  static Floats scale(const Q4_1& b, int, int) { return halves(b.scale); }
  static Floats low(const Q4_1& b, int) { return halves(b.low); }
};
template <>
struct Reader<Q5_0> : OneBlock {
  static constexpr int ZERO = 4;
  static constexpr bool AHEAD = true;
  static void codes(const Q5_0& b, int, Bytes* w) { five_bits(b.codes, b.high, w); }
  static Floats scale(const Q5_0& b, int, int) { return halves(b.scale); }
};
template <>
struct Reader<Q5_1> : OneBlock {
  static constexpr bool LOW = true, AHEAD = true;
  static void codes(const Q5_1& b, int, Bytes* w) { five_bits(b.codes, b.high, w); }
  static Floats scale(const Q5_1& b, int, int) { return halves(b.scale); }
  static Floats low(const Q5_1& b, int) { return halves(b.low); }
};
template <>
struct Reader<Q8_0> : OneBlock {
  static constexpr int ZERO = 7;
  static constexpr bool WIDE = true;
  static void codes(const Q8_0& b, int, Bytes* w) {
    for (int g = 0; g < 8; g++) w[g] = bytes(b.codes + 64 * g);
  }
  static Floats scale(const Q8_0& b, int, int) { return halves(b.scale); }
};
template <>
struct Reader<Q4_K> : SuperBlock {
  static constexpr bool LOW = true;
  static void codes(const Q4_K& b, int s, Bytes* w) { four_bits(b.sub[s].codes, w); }
  static Floats scale(const Q4_K& b, int s, int) { return mul(halves(b.scale), unsigned_bytes(b.sub[s].scale)); }
  static Floats low(const Q4_K& b, int s) { return mul(halves(b.low), sub(zero(), unsigned_bytes(b.sub[s].low))); }
};
template <>
struct Reader<Q5_K> : SuperBlock {
  static constexpr bool LOW = true, AHEAD = true;
  static void codes(const Q5_K& b, int s, Bytes* w) { five_bits(b.sub[s].codes, b.sub[s].high, w); }
  static Floats scale(const Q5_K& b, int s, int) { return mul(halves(b.scale), unsigned_bytes(b.sub[s].scale)); }
  static Floats low(const Q5_K& b, int s) { return mul(halves(b.low), sub(zero(), unsigned_bytes(b.sub[s].low))); }
};
template <>
struct Reader<Q6_K> : SuperBlock {
  static constexpr int ZERO = 5;
  static constexpr bool HALVES = true, AHEAD = true;
  static void codes(const Q6_K& b, int s, Bytes* w) {
    four_bits(b.sub[s].codes, w);
    for (int h = 0; h < 2; h++) {
      const Bytes upper = bytes(b.sub[s].high + 64 * h);
      w[4 * h] = with_upper<0>(w[4 * h], upper), w[4 * h + 1] = with_upper<1>(w[4 * h + 1], upper);
      w[4 * h + 2] = with_upper<2>(w[4 * h + 2], upper), w[4 * h + 3] = with_upper<3>(w[4 * h + 3], upper);
    }
  }
  static Floats scale(const Q6_K& b, int s, int h) {
    return mul(halves(b.scale), signed_bytes(b.sub[s].scale[h]));
  }
};

// The whole sum of groups first ... first + 3 with 16 codes of the activation.
template <class R>
inline Ints four_groups(Ints a, const Bytes* w, const int8_t* x) {
  for (int g = 0; g < 4; g++) a = R::WIDE ? dot_wide(a, w[g], x + 4 * g) : dot_narrow(a, w[g], x + 4 * g);
  return a;
}

// 16 outputs of M rows of one group, from row `first` of all. One row: the machine fetches what comes next well by
// itself, save where a block is read in another order than it lies (AHEAD).
template <class Block, int M>
inline void tile_of(const Block* block, const Activations& x, int64_t first, float* out, int64_t stride) {
  using R = Reader<Block>;
  const int64_t blocks = x.inputs / BLOCK;
  int64_t at = x.at(first, 0);
  Floats total[M];
  for (auto& t : total) t = zero();
  for (int64_t i = 0; i < blocks; i++, at += x.group) {
    const Block& b = block[i / R::SUBS];
    const int s = static_cast<int>(i % R::SUBS);
    const char* here = reinterpret_cast<const char*>(&b) + s * (sizeof(Block) / R::SUBS);
    for (size_t line = 0; line < sizeof(Block) / R::SUBS; line += 64) {
      if constexpr (M == 1 && R::AHEAD) fetch_near(here + 4096 + line);
      if constexpr (M > 1 && M <= 8) fetch_far(here + 8192 + line);  // more rows find the tile in the cache
    }
    Bytes w[8];
    R::codes(b, s, w);
    const Floats scale = R::scale(b, s, 0);
    Floats second = scale, low = scale;
    if constexpr (R::HALVES) second = R::scale(b, s, 1);
    if constexpr (R::LOW) low = R::low(b, s);
    const int8_t* codes = x.codes.data() + at * BLOCK;
    const float *scales = x.scale.data() + at, *sums = x.sum.data() + at;
    const int32_t *less = x.less.data() + 2 * at, *less_both = x.less_both.data() + at;
#pragma GCC unroll 16
    for (int m = 0; m < M; m++) {
      const Floats own = every(scales[m]);
      if constexpr (R::HALVES) {
        const Ints a = four_groups<R>(times_two_to<R::ZERO>(less + 2 * m), w, codes + m * BLOCK);
        const Ints c = four_groups<R>(times_two_to<R::ZERO>(less + 2 * m + 1), w + 4, codes + m * BLOCK + 16);
        total[m] = fma(fma(floats(c), second, mul(floats(a), scale)), own, total[m]);
      } else {
        Ints a = ints(0);
        if constexpr (R::ZERO > 0) a = times_two_to<R::ZERO>(less_both + m);
        a = add(four_groups<R>(a, w, codes + m * BLOCK), four_groups<R>(ints(0), w + 4, codes + m * BLOCK + 16));
        total[m] = fma(floats(a), mul(scale, own), total[m]);
        if constexpr (R::LOW) total[m] = fma(low, every(sums[m]), total[m]);
      }
    }
  }
  for (int m = 0; m < M; m++) store(out + m * stride, total[m]);
}

inline Floats numbers(const F16& b) { return halves(b.v); }
inline Floats numbers(const BF16& b) { return bf16(b.v); }
inline Floats numbers(const F32& b) { return load(b.v); }

template <class Number, int M>
inline void plain_tile_of(const Number* from, const Activations& x, int64_t first, float* out, int64_t stride) {
  Floats total[M];
  for (auto& t : total) t = zero();
  const float* values = x.values.data() + first * x.inputs;
  for (int64_t i = 0; i < x.inputs; i++) {
    if constexpr (M <= 8) fetch_near(reinterpret_cast<const char*>(from + i) + 4096);
    const Floats w = numbers(from[i]);
    for (int m = 0; m < M; m++) total[m] = fma(w, every(values[m * x.inputs + i]), total[m]);
  }
  for (int m = 0; m < M; m++) store(out + m * stride, total[m]);
}

template <class Block, int M>
inline void any_tile(const uint8_t* tile, const Activations& x, int64_t first, float* out, int64_t stride) {
  if constexpr (std::is_same_v<Block, F16> || std::is_same_v<Block, BF16> || std::is_same_v<Block, F32>) {
    plain_tile_of<Block, M>(reinterpret_cast<const Block*>(tile), x, first, out, stride);
  } else {
    tile_of<Block, M>(reinterpret_cast<const Block*>(tile), x, first, out, stride);
  }
}

template <class Block>
void rows_of(const uint8_t* tile, const Activations& x, int64_t first, int64_t rows, float* out, int64_t stride) {
  for (; rows >= 12; rows -= 12, first += 12, out += 12 * stride) any_tile<Block, 12>(tile, x, first, out, stride);
  for (; rows > 8; rows -= 4, first += 4, out += 4 * stride) any_tile<Block, 4>(tile, x, first, out, stride);
  switch (rows) {
    case 1: return any_tile<Block, 1>(tile, x, first, out, stride);
    case 2: return any_tile<Block, 2>(tile, x, first, out, stride);
    case 3: return any_tile<Block, 3>(tile, x, first, out, stride);
    case 4: return any_tile<Block, 4>(tile, x, first, out, stride);
    case 5: return any_tile<Block, 5>(tile, x, first, out, stride);
    case 6: return any_tile<Block, 6>(tile, x, first, out, stride);
    case 7: return any_tile<Block, 7>(tile, x, first, out, stride);
    case 8: return any_tile<Block, 8>(tile, x, first, out, stride);
    default: return;
  }
}

void multiply(Kind kind, const uint8_t* tile, const Activations& x, int64_t first, int64_t rows, float* out,
              int64_t stride) {
  of_kind(kind, [&](auto block) { rows_of<typename decltype(block)::type>(tile, x, first, rows, out, stride); });
}

void take_codes(const float* numbers, Activations& x, int64_t m) {
  for (int64_t i = 0; i < x.inputs / BLOCK; i++) {
    const int64_t at = x.at(m, i);
    const Floats a = load(numbers + i * BLOCK), b = load(numbers + i * BLOCK + 16);
    const float most = largest(larger(absolute(a), absolute(b)));
    const Floats up = every(most > 0 ? 127 / most : 0);
    int8_t* codes = x.codes.data() + at * BLOCK;
    const int32_t one = store_codes(codes, nearest(mul(a, up)));
    const int32_t two = store_codes(codes + 16, nearest(mul(b, up)));
    x.scale[at] = most / 127;
    x.sum[at] = x.scale[at] * static_cast<float>(one + two);
    x.less[2 * at] = -one, x.less[2 * at + 1] = -two, x.less_both[at] = -one - two;
  }
}

void take(const float* numbers, Activations& x, int64_t m, bool plain, bool codes) {
  if (plain) std::memcpy(x.values.data() + m * x.inputs, numbers, static_cast<size_t>(x.inputs) * sizeof(float));
  if (codes) take_codes(numbers, x, m);
}

void norm(const float* numbers, const float* weight, int64_t n, float eps, float* out) {
  Floats squares = zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) squares = fma(load(numbers + i), load(numbers + i), squares);
  float total = sum(squares);
  for (; i < n; i++) total += numbers[i] * numbers[i];
  const float scale = 1 / std::sqrt(total / static_cast<float>(n) + eps);
  for (i = 0; i + 16 <= n; i += 16) store(out + i, mul(mul(load(numbers + i), every(scale)), load(weight + i)));
  for (; i < n; i++) out[i] = numbers[i] * scale * weight[i];
}

// exp(x), relative error about 1e-7, for x from -87 to 88: 2^n times a polynomial on [-ln2/2, ln2/2].
inline Floats exponential(Floats x) {
  x = smaller(larger(x, every(-87.0f)), every(88.0f));
  const Floats n = nearest(mul(x, every(1.442695041f)));
  Floats r = fma(n, every(-0.693359375f), x);
  r = fma(n, every(2.12194440e-4f), r);
  Floats p = every(1.0f / 720);
  for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = fma(p, r, every(c));
  return mul(p, two_to(n));
}

void gate(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const Floats x = load(gate + i);
    const Floats open = div(x, add(every(1), exponential(sub(zero(), x))));
    store(gate + i, mul(open, load(up + i)));
  }
}

void add_to(float* to, const float* more, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(to + i, add(load(to + i), load(more + i)));
  for (; i < n; i++) to[i] += more[i];
}

void turn(float* head, const float* cos_sin, int width) {
  for (int i = 0; i < width; i += 16) {
    const Floats x = load(head + i);
    store(head + i, fma(x, load(cos_sin + i), mul(swapped(x), load(cos_sin + width + i))));
  }
}

void narrow(const float* numbers, float scale, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; i += 16) store_bf16(out + i, mul(load(numbers + i), every(scale)));
}

int32_t busy(int64_t turns) {
  const uint8_t weights[4 * ROWS] = {1, 2, 3};
  int8_t four[4] = {1, -1, 1, -1};
  Ints sums[BUSY_SUMS];
  for (auto& s : sums) s = ints(0);
  const Bytes w = bytes(weights);
  for (int64_t n = 0; n < turns; n++) {
    four[0] = static_cast<int8_t>(n);
    for (auto& s : sums) s = dot_narrow(s, w, four);
  }
  for (int i = 1; i < BUSY_SUMS; i++) sums[0] = add(sums[0], sums[i]);
  return static_cast<int32_t>(sum(floats(sums[0])));
}
