// How keys and values lie in memory: pages of positions, in bf16 or as codes of a byte with a scale for each position
// and head.
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace puna::llama {

// The keys and values of one head of one page: `page` positions of Dh numbers, bf16 or codes.
//   keys[((t / 16 * Dh / 2 + d / 2) * 16 + t % 16) * 2 + d % 2]    16 positions side by side, as weights lie
//   values[(t / 2 * Dh + d) * 2 + t % 2]                           pairs of positions side by side
// After codes, of the keys as of the values, `page` floats: what each position's codes are to be multiplied by.
struct Form {
  bool coded = false;
  int64_t page = 0, width = 0;  // positions, a multiple of 16; Dh

  int64_t bytes() const { return page * (coded ? width + int64_t{sizeof(float)} : 2 * width); }  // of the keys

  // Key and value (Dh,) of the position at `place` of this page. room: 4 * Dh bytes.
  void put(const Kernels& k, const float* key, const float* value, int64_t place, uint8_t* keys, uint8_t* values,
           void* room) const {
    if (coded) {
      auto* codes = static_cast<int8_t*>(room);
      scales(keys)[place] = k.to_bytes(key, width, codes);
      scales(values)[place] = k.to_bytes(value, width, codes + width);
      lay(codes, place, reinterpret_cast<int8_t*>(keys), reinterpret_cast<int8_t*>(values));
    } else {
      auto* narrow = static_cast<uint16_t*>(room);
      k.narrow(key, 1, width, narrow), k.narrow(value, 1, width, narrow + width);
      lay(narrow, place, reinterpret_cast<uint16_t*>(keys), reinterpret_cast<uint16_t*>(values));
    }
  }

  // `count` queries (count, Dh) times `scale`, as `attend` wants them.
  void ask(const Kernels& k, const float* queries, float scale, int64_t count, uint16_t* out, float* scales) const {
    if (!coded) return k.narrow(queries, scale, count * width, out);
    for (int64_t i = 0; i < count; i++) {
      scales[i] = scale * k.to_words(queries + i * width, width, reinterpret_cast<int16_t*>(out) + i * width);
    }
  }

  void attend(const Kernels& k, const Heads& heads, const Mixed& mixed, float* room) const {
    (coded ? k.attend_codes : k.attend)(heads, mixed, room);
  }

 private:
  float* scales(uint8_t* codes) const { return reinterpret_cast<float*>(codes + page * width); }

  // A key and then its value.
  template <class Number>
  void lay(const Number* both, int64_t place, Number* keys, Number* values) const {
    const Number *key = both, *value = both + width;
    keys += place / 16 * 16 * width + place % 16 * 2, values += place / 2 * 2 * width;
    for (int64_t d = 0; d < width; d++) keys[d / 2 * 32 + d % 2] = key[d], values[2 * d + place % 2] = value[d];
    for (int64_t d = 0; place % 2 == 0 && d < width; d++) values[2 * d + 1] = 0;  // mixed with weight 0 till written
  }
};

}  // namespace puna::llama
