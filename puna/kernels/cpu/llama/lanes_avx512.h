// Sixteen lanes of 32 bits as one register: AVX-512 with VNNI and BF16 (Zen 4, Sapphire Rapids and later).
// Every lanes_*.h has the same names; kernels.inl is written over them and compiled once for each.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace puna::llama::avx512 {

using Ints = __m512i;
using Floats = __m512;
using Bytes = __m512i;

inline Bytes bytes(const void* p) { return _mm512_loadu_si512(p); }
inline Bytes low_nibbles(Bytes b) { return _mm512_and_si512(b, _mm512_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes b) { return _mm512_and_si512(_mm512_srli_epi16(b, 4), _mm512_set1_epi8(15)); }

// b with bit 4 of byte i set where bit i of the 8 bytes at p is.
inline Bytes with_fifth(Bytes b, const uint8_t* p) {
  uint64_t bits;
  std::memcpy(&bits, p, 8);
  return _mm512_mask_add_epi8(b, bits, b, _mm512_set1_epi8(16));
}

// b with bits 4 and 5 of each byte from bits 2 * G and 2 * G + 1 of `upper`.
template <int G>
inline Bytes with_upper(Bytes b, Bytes upper) {
  const Bytes moved = G < 2 ? _mm512_slli_epi16(upper, 4 - 2 * G) : _mm512_srli_epi16(upper, 2 * G - 4);
  return _mm512_ternarylogic_epi64(b, moved, _mm512_set1_epi8(0x30), 0xf8);  // b | (moved & 0x30)
}

inline Ints ints(int32_t v) { return _mm512_set1_epi32(v); }
template <int SHIFT>
inline Ints times_two_to(const int32_t* p) { return _mm512_slli_epi32(_mm512_set1_epi32(*p), SHIFT); }
inline Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Floats floats(Ints a) { return _mm512_cvtepi32_ps(a); }

// a + the sum of w[4 * lane + j] * four[j]; weights are below 64 (narrow) or any byte.
inline Ints dot_narrow(Ints a, Bytes w, const int8_t* four) {
  int32_t word;
  std::memcpy(&word, four, 4);
  return _mm512_dpbusd_epi32(a, w, _mm512_set1_epi32(word));
}
inline Ints dot_wide(Ints a, Bytes w, const int8_t* four) { return dot_narrow(a, w, four); }

// a + x[2 * lane] * two[0] + x[2 * lane + 1] * two[1], all bf16.
inline Floats dot_pairs(Floats a, const uint16_t* x, const uint16_t* two) {
  int32_t word;
  std::memcpy(&word, two, 4);
  return _mm512_dpbf16_ps(a, (__m512bh)_mm512_loadu_si512(x), (__m512bh)_mm512_set1_epi32(word));
}
// The same over codes, by whole numbers of 16 bits.
inline Ints dot_pairs(Ints a, const int8_t* x, const int16_t* two) {
  int32_t word;
  std::memcpy(&word, two, 4);
  const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)x));
  return _mm512_dpwssd_epi32(a, wide, _mm512_set1_epi32(word));
}

inline Floats zero() { return _mm512_setzero_ps(); }
inline Floats every(float v) { return _mm512_set1_ps(v); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
inline Floats halves(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline Floats bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
inline Floats unsigned_bytes(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
inline Floats signed_bytes(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }  // a * b + c
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats absolute(Floats a) { return _mm512_abs_ps(a); }
inline Floats nearest(Floats a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Floats two_to(Floats n) { return _mm512_scalef_ps(every(1), n); }  // n whole, -126 to 127
inline float sum(Floats a) { return _mm512_reduce_add_ps(a); }
inline float largest(Floats a) { return _mm512_reduce_max_ps(a); }

// 16 whole numbers from -127 to 127 as bytes; their sum.
inline int32_t store_codes(int8_t* p, Floats v) {
  const __m512i whole = _mm512_cvtps_epi32(v);
  _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(whole));
  return _mm512_reduce_add_epi32(whole);
}
// The same as words, from -32767 to 32767.
inline void store_codes(int16_t* p, Floats v) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v)));
}
// 16 numbers as bf16, to the nearest, to even at a tie.
inline void store_bf16(uint16_t* p, Floats v) {
  const __m256bh narrow = _mm512_cvtneps_pbh(v);
  std::memcpy(p, &narrow, 32);
}
// Neighbours (2i, 2i + 1) change places.
inline Floats swapped(Floats a) { return _mm512_permute_ps(a, 0xb1); }
inline void fetch_near(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }  // to the first cache
inline void fetch_far(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }   // to the second

}  // namespace puna::llama::avx512
