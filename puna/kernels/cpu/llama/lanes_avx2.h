// Sixteen lanes of 32 bits as two registers: AVX2 with FMA and F16C (x86 since 2013).
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace puna::llama::avx2 {

struct Ints {
  __m256i a, b;
};
struct Floats {
  __m256 a, b;
};
using Bytes = Ints;

inline Bytes bytes(const void* p) {
  return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)p + 1)};
}
inline __m256i low_half(__m256i b) { return _mm256_and_si256(b, _mm256_set1_epi8(15)); }
inline __m256i high_half(__m256i b) { return low_half(_mm256_srli_epi16(b, 4)); }
inline Bytes low_nibbles(Bytes b) { return {low_half(b.a), low_half(b.b)}; }
inline Bytes high_nibbles(Bytes b) { return {high_half(b.a), high_half(b.b)}; }

// 16 in byte i where bit i of `bits` is set.
inline __m256i sixteen_where(uint32_t bits) {
  const __m256i place = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i own = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
  const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), place);
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, own), own);
  return _mm256_and_si256(set, _mm256_set1_epi8(16));
}
inline Bytes with_fifth(Bytes b, const uint8_t* p) {
  uint32_t bits[2];
  std::memcpy(bits, p, 8);
  return {_mm256_or_si256(b.a, sixteen_where(bits[0])), _mm256_or_si256(b.b, sixteen_where(bits[1]))};
}
template <int G>
inline __m256i upper_half(__m256i upper) {
  const __m256i moved = G < 2 ? _mm256_slli_epi16(upper, 4 - 2 * G) : _mm256_srli_epi16(upper, 2 * G - 4);
  return _mm256_and_si256(moved, _mm256_set1_epi8(0x30));
}
template <int G>
inline Bytes with_upper(Bytes b, Bytes upper) {
  return {_mm256_or_si256(b.a, upper_half<G>(upper.a)), _mm256_or_si256(b.b, upper_half<G>(upper.b))};
}

inline Ints ints(int32_t v) { return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}; }
template <int SHIFT>
inline Ints times_two_to(const int32_t* p) { return ints(static_cast<int32_t>(static_cast<uint32_t>(*p) << SHIFT)); }
inline Ints add(Ints a, Ints b) { return {_mm256_add_epi32(a.a, b.a), _mm256_add_epi32(a.b, b.b)}; }
inline Floats floats(Ints a) { return {_mm256_cvtepi32_ps(a.a), _mm256_cvtepi32_ps(a.b)}; }

// Two products of a byte below 64 and a code fit 16 bits.
inline __m256i dot_half(__m256i w, __m256i four) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(w, four), _mm256_set1_epi16(1));
}
inline Ints dot_narrow(Ints a, Bytes w, const int8_t* four) {
  int32_t word;
  std::memcpy(&word, four, 4);
  const __m256i x = _mm256_set1_epi32(word);
  return {_mm256_add_epi32(a.a, dot_half(w.a, x)), _mm256_add_epi32(a.b, dot_half(w.b, x))};
}
// Bytes up to 255 by their halves, for 16 bits could not hold the sum.
inline Ints dot_wide(Ints a, Bytes w, const int8_t* four) {
  const Ints high = dot_narrow(ints(0), high_nibbles(w), four);
  const Ints moved = {_mm256_slli_epi32(high.a, 4), _mm256_slli_epi32(high.b, 4)};
  return dot_narrow(add(a, moved), low_nibbles(w), four);
}

inline Floats zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Floats every(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
inline Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Floats v) { _mm256_storeu_ps(p, v.a), _mm256_storeu_ps(p + 8, v.b); }
inline Floats halves(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p + 1))};
}
inline __m256 bf16_half(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline Floats bf16(const uint16_t* p) { return {bf16_half(p), bf16_half(p + 8)}; }
inline Floats unsigned_bytes(const uint8_t* p) {
  const __m128i all = _mm_loadu_si128((const __m128i*)p);
  return floats(Ints{_mm256_cvtepu8_epi32(all), _mm256_cvtepu8_epi32(_mm_srli_si128(all, 8))});
}
inline Floats signed_bytes(const int8_t* p) {
  const __m128i all = _mm_loadu_si128((const __m128i*)p);
  return floats(Ints{_mm256_cvtepi8_epi32(all), _mm256_cvtepi8_epi32(_mm_srli_si128(all, 8))});
}
inline Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)}; }
inline Floats sub(Floats a, Floats b) { return {_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)}; }
inline Floats mul(Floats a, Floats b) { return {_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)}; }
inline Floats div(Floats a, Floats b) { return {_mm256_div_ps(a.a, b.a), _mm256_div_ps(a.b, b.b)}; }
inline Floats fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
inline Floats larger(Floats a, Floats b) { return {_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)}; }
inline Floats smaller(Floats a, Floats b) { return {_mm256_min_ps(a.a, b.a), _mm256_min_ps(a.b, b.b)}; }
inline Floats absolute(Floats x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline Floats nearest(Floats x) {
  constexpr int how = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, how), _mm256_round_ps(x.b, how)};
}
inline __m256 two_to_half(__m256 n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline Floats two_to(Floats n) { return {two_to_half(n.a), two_to_half(n.b)}; }
inline float sum(Floats x) {
  float all[8], total = 0;
  _mm256_storeu_ps(all, _mm256_add_ps(x.a, x.b));
  for (float v : all) total += v;
  return total;
}
inline float largest(Floats x) {
  float all[8];
  _mm256_storeu_ps(all, _mm256_max_ps(x.a, x.b));
  float most = all[0];
  for (float v : all) most = v > most ? v : most;
  return most;
}
inline int32_t store_codes(int8_t* p, Floats v) {
  float all[16];
  int32_t total = 0;
  store(all, v);
  for (int i = 0; i < 16; i++) {
    const int32_t whole = _mm_cvtss_si32(_mm_set_ss(all[i]));
    p[i] = static_cast<int8_t>(whole), total += whole;
  }
  return total;
}
inline void store_codes(int16_t* p, Floats v) {
  const __m256i both = _mm256_packs_epi32(_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b));
  _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(both, 0xd8));
}
inline __m128i bf16_of(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(up, up), 0x08);
  return _mm256_castsi256_si128(both);
}
inline void store_bf16(uint16_t* p, Floats v) {
  _mm_storeu_si128((__m128i*)p, bf16_of(v.a)), _mm_storeu_si128((__m128i*)p + 1, bf16_of(v.b));
}
inline Floats swapped(Floats x) { return {_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1)}; }
inline __m256 upper_number(__m256i pair) {
  return _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}
inline __m256 lower_number(__m256i pair) { return _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)); }
inline Floats dot_pairs(Floats a, const uint16_t* x, const uint16_t* two) {
  int32_t word;
  std::memcpy(&word, two, 4);
  const __m256i pair = _mm256_set1_epi32(word);
  const Bytes both = bytes(x);
  a = fma(Floats{lower_number(both.a), lower_number(both.b)}, Floats{lower_number(pair), lower_number(pair)}, a);
  return fma(Floats{upper_number(both.a), upper_number(both.b)}, Floats{upper_number(pair), upper_number(pair)}, a);
}
inline __m256i dot_codes(const int8_t* x, __m256i pair) {
  return _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)x)), pair);
}
inline Ints dot_pairs(Ints a, const int8_t* x, const int16_t* two) {
  int32_t word;
  std::memcpy(&word, two, 4);
  const __m256i pair = _mm256_set1_epi32(word);
  return add(a, Ints{dot_codes(x, pair), dot_codes(x + 16, pair)});
}
inline void fetch_near(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }  // to the first cache
inline void fetch_far(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }   // to the second

}  // namespace puna::llama::avx2
