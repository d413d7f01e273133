// Sixteen lanes of 32 bits as arrays: any machine; a compiler makes of the loops what it has.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "packed.h"

namespace puna::llama::portable {

struct Ints {
  int32_t v[16];
};
struct Floats {
  float v[16];
};
struct Bytes {
  uint8_t v[64];
};

template <class To, class Of>
inline To each(Of of) {
  To to;
  for (int i = 0; i < static_cast<int>(sizeof(to.v) / sizeof(to.v[0])); i++) to.v[i] = of(i);
  return to;
}
inline uint8_t byte(int v) { return static_cast<uint8_t>(v); }
inline float wide(uint16_t bits) {
  const uint32_t all = static_cast<uint32_t>(bits) << 16;
  float number;
  std::memcpy(&number, &all, 4);
  return number;
}

inline Bytes bytes(const void* p) {
  Bytes b;
  std::memcpy(b.v, p, 64);
  return b;
}
inline Bytes low_nibbles(const Bytes& b) { return each<Bytes>([&](int i) { return byte(b.v[i] & 15); }); }
inline Bytes high_nibbles(const Bytes& b) { return each<Bytes>([&](int i) { return byte(b.v[i] >> 4); }); }
inline Bytes with_fifth(const Bytes& b, const uint8_t* p) {
  return each<Bytes>([&](int i) { return byte(b.v[i] | (p[i / 8] >> i % 8 & 1) << 4); });
}
template <int G>
inline Bytes with_upper(const Bytes& b, const Bytes& upper) {
  return each<Bytes>([&](int i) { return byte(b.v[i] | (upper.v[i] >> 2 * G & 3) << 4); });
}
inline Ints ints(int32_t v) { return each<Ints>([&](int) { return v; }); }
template <int SHIFT>
inline Ints times_two_to(const int32_t* p) { return ints(*p * (1 << SHIFT)); }
inline Ints add(const Ints& a, const Ints& b) { return each<Ints>([&](int i) { return a.v[i] + b.v[i]; }); }
inline Floats floats(const Ints& a) { return each<Floats>([&](int i) { return static_cast<float>(a.v[i]); }); }
inline Ints dot_narrow(const Ints& a, const Bytes& w, const int8_t* four) {
  return each<Ints>([&](int i) {
    const uint8_t* own = w.v + 4 * i;
    return a.v[i] + own[0] * four[0] + own[1] * four[1] + own[2] * four[2] + own[3] * four[3];
  });
}
inline Ints dot_wide(const Ints& a, const Bytes& w, const int8_t* four) { return dot_narrow(a, w, four); }
inline Floats dot_pairs(const Floats& a, const uint16_t* x, const uint16_t* two) {
  return each<Floats>(
      [&](int i) { return a.v[i] + wide(x[2 * i]) * wide(two[0]) + wide(x[2 * i + 1]) * wide(two[1]); });
}
inline Ints dot_pairs(const Ints& a, const int8_t* x, const int16_t* two) {
  return each<Ints>([&](int i) { return a.v[i] + x[2 * i] * two[0] + x[2 * i + 1] * two[1]; });
}
inline Floats zero() { return each<Floats>([](int) { return 0.0f; }); }
inline Floats every(float v) { return each<Floats>([&](int) { return v; }); }
inline Floats load(const float* p) { return each<Floats>([&](int i) { return p[i]; }); }
inline void store(float* p, const Floats& v) { std::memcpy(p, v.v, 64); }
inline Floats halves(const uint16_t* p) { return each<Floats>([&](int i) { return from_half(p[i]); }); }
inline Floats bf16(const uint16_t* p) { return each<Floats>([&](int i) { return wide(p[i]); }); }
inline Floats unsigned_bytes(const uint8_t* p) {
  return each<Floats>([&](int i) { return static_cast<float>(p[i]); });
}
inline Floats signed_bytes(const int8_t* p) { return each<Floats>([&](int i) { return static_cast<float>(p[i]); }); }
inline Floats add(const Floats& a, const Floats& b) { return each<Floats>([&](int i) { return a.v[i] + b.v[i]; }); }
inline Floats sub(const Floats& a, const Floats& b) { return each<Floats>([&](int i) { return a.v[i] - b.v[i]; }); }
inline Floats mul(const Floats& a, const Floats& b) { return each<Floats>([&](int i) { return a.v[i] * b.v[i]; }); }
inline Floats div(const Floats& a, const Floats& b) { return each<Floats>([&](int i) { return a.v[i] / b.v[i]; }); }
inline Floats fma(const Floats& a, const Floats& b, const Floats& c) {
  return each<Floats>([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline Floats larger(const Floats& a, const Floats& b) {
  return each<Floats>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats smaller(const Floats& a, const Floats& b) {
  return each<Floats>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats absolute(const Floats& a) { return each<Floats>([&](int i) { return std::fabs(a.v[i]); }); }
inline Floats nearest(const Floats& a) { return each<Floats>([&](int i) { return std::nearbyint(a.v[i]); }); }
inline Floats two_to(const Floats& n) {
  return each<Floats>([&](int i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n.v[i]) + 127) << 23;
    float number;
    std::memcpy(&number, &bits, 4);
    return number;
  });
}
inline float sum(const Floats& a) {
  float total = 0;
  for (float v : a.v) total += v;
  return total;
}
inline float largest(const Floats& a) {
  float most = a.v[0];
  for (float v : a.v) most = v > most ? v : most;
  return most;
}
inline int32_t store_codes(int8_t* p, const Floats& v) {
  int32_t total = 0;
  for (int i = 0; i < 16; i++) {
    const auto whole = static_cast<int32_t>(std::nearbyint(v.v[i]));
    p[i] = static_cast<int8_t>(whole), total += whole;
  }
  return total;
}
inline void store_codes(int16_t* p, const Floats& v) {
  for (int i = 0; i < 16; i++) p[i] = static_cast<int16_t>(std::nearbyint(v.v[i]));
}
inline void store_bf16(uint16_t* p, const Floats& v) {
  for (int i = 0; i < 16; i++) {
    uint32_t bits;
    std::memcpy(&bits, &v.v[i], 4);
    p[i] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}
inline Floats swapped(const Floats& a) { return each<Floats>([&](int i) { return a.v[i ^ 1]; }); }
inline void fetch_near(const void*) {}
inline void fetch_far(const void*) {}

}  // namespace puna::llama::portable
