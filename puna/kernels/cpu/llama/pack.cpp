// From the blocks of a GGUF to tiles, and a row back again. Plain loops: a gigabyte takes a second.
#include <cstring>
#include <stdexcept>

#include "packed.h"

namespace puna::llama {
namespace {

struct Form {
  const char* name;
  int inputs;                 // of a block
  int64_t stored, packed;     // bytes of a block: of one row in the file, of 16 rows in a tile
};
constexpr Form FORMS[] = {
    {"Q4_0", 32, 18, sizeof(Q4_0)},    {"Q4_1", 32, 20, sizeof(Q4_1)},    {"Q5_0", 32, 22, sizeof(Q5_0)},
    {"Q5_1", 32, 24, sizeof(Q5_1)},    {"Q8_0", 32, 34, sizeof(Q8_0)},    {"Q4_K", 256, 144, sizeof(Q4_K)},
    {"Q5_K", 256, 176, sizeof(Q5_K)},  {"Q6_K", 256, 210, sizeof(Q6_K)},  {"F16", 1, 2, 32},
    {"BF16", 1, 2, 32},                {"F32", 1, 4, 64},
};
const Form& form(Kind kind) { return FORMS[static_cast<int>(kind)]; }

int64_t blocks_of(Kind kind, int64_t inputs) {
  const Form& f = form(kind);
  if (inputs % f.inputs) throw std::invalid_argument(std::string(f.name) + ": inputs do not divide into blocks");
  return inputs / f.inputs;
}

uint16_t half_at(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

// 32 codes of 4 bits of row r.
void put_low(uint8_t* to, int r, const uint8_t* codes) {
  uint8_t both[16];
  for (int k = 0; k < 16; k++) both[k] = static_cast<uint8_t>((codes[k] & 15) | (codes[k + 16] & 15) << 4);
  for (int g = 0; g < 4; g++) std::memcpy(to + 64 * g + 4 * r, both + 4 * g, 4);
}

// The fifth bits of 32 codes of row r.
void put_fifth(uint8_t* to, int r, const uint8_t* codes) {
  for (int g = 0; g < 8; g++) {
    const uint8_t* c = codes + 4 * g;
    const int bits = (c[0] >> 4 & 1) | (c[1] >> 3 & 2) | (c[2] >> 2 & 4) | (c[3] >> 1 & 8);
    to[8 * g + r / 2] |= static_cast<uint8_t>(bits << 4 * (r % 2));  // the tile was zeros
  }
}

// The upper two bits of 32 codes of 6 bits of row r.
void put_upper(uint8_t* to, int r, const uint8_t* codes) {
  for (int h = 0; h < 2; h++) {
    uint8_t bits[4];
    for (int j = 0; j < 4; j++) {
      const uint8_t* c = codes + 16 * h + j;
      bits[j] = static_cast<uint8_t>(c[0] >> 4 | (c[4] >> 4) << 2 | (c[8] >> 4) << 4 | (c[12] >> 4) << 6);
    }
    std::memcpy(to + 64 * h + 4 * r, bits, 4);
  }
}

// 32 codes of 4 bits and their fifth bits, as Q4_0 to Q5_1 keep them.
void spread(const uint8_t* low, const uint8_t* fifth, uint8_t* codes) {
  for (int k = 0; k < 16; k++) codes[k] = low[k] & 15, codes[k + 16] = low[k] >> 4;
  for (int k = 0; fifth && k < 32; k++) codes[k] |= static_cast<uint8_t>((fifth[k / 8] >> k % 8 & 1) << 4);
}

// Scale and low of sub-block s, 6 bits each, from the 12 bytes of Q4_K and Q5_K.
void six_bits(const uint8_t* p, int s, uint8_t& scale, uint8_t& low) {
  if (s < 4) {
    scale = p[s] & 63, low = p[s + 4] & 63;
  } else {
    scale = static_cast<uint8_t>((p[s + 4] & 15) | p[s - 4] >> 6 << 4);
    low = static_cast<uint8_t>(p[s + 4] >> 4 | p[s] >> 6 << 4);
  }
}

// One block of row r of a tile, from its bytes in the file.
void put(const uint8_t* from, int r, Q4_0& to) {
  uint8_t codes[32];
  to.scale[r] = half_at(from);
  spread(from + 2, nullptr, codes);
  put_low(to.codes, r, codes);
}
void put(const uint8_t* from, int r, Q4_1& to) {
  uint8_t codes[32];
  to.scale[r] = half_at(from), to.low[r] = half_at(from + 2);
  spread(from + 4, nullptr, codes);
  put_low(to.codes, r, codes);
}
void put(const uint8_t* from, int r, Q5_0& to) {
  uint8_t codes[32];
  to.scale[r] = half_at(from);
  spread(from + 6, from + 2, codes);
  put_low(to.codes, r, codes), put_fifth(to.high, r, codes);
}
void put(const uint8_t* from, int r, Q5_1& to) {
  uint8_t codes[32];
  to.scale[r] = half_at(from), to.low[r] = half_at(from + 2);
  spread(from + 8, from + 4, codes);
  put_low(to.codes, r, codes), put_fifth(to.high, r, codes);
}
void put(const uint8_t* from, int r, Q8_0& to) {
  to.scale[r] = half_at(from);
  uint8_t codes[32];
  for (int k = 0; k < 32; k++) codes[k] = from[2 + k] ^ 0x80;
  for (int g = 0; g < 8; g++) std::memcpy(to.codes + 64 * g + 4 * r, codes + 4 * g, 4);
}
void put(const uint8_t* from, int r, Q4_K& to) {
  to.scale[r] = half_at(from), to.low[r] = half_at(from + 2);
  for (int s = 0; s < 8; s++) {
    uint8_t codes[32];
    for (int k = 0; k < 32; k++) codes[k] = from[16 + 32 * (s / 2) + k] >> 4 * (s % 2) & 15;
    six_bits(from + 4, s, to.sub[s].scale[r], to.sub[s].low[r]);
    put_low(to.sub[s].codes, r, codes);
  }
}
void put(const uint8_t* from, int r, Q5_K& to) {
  to.scale[r] = half_at(from), to.low[r] = half_at(from + 2);
  for (int s = 0; s < 8; s++) {
    uint8_t codes[32];
    for (int k = 0; k < 32; k++) {
      codes[k] = static_cast<uint8_t>((from[48 + 32 * (s / 2) + k] >> 4 * (s % 2) & 15) | (from[16 + k] >> s & 1) << 4);
    }
    six_bits(from + 4, s, to.sub[s].scale[r], to.sub[s].low[r]);
    put_low(to.sub[s].codes, r, codes), put_fifth(to.sub[s].high, r, codes);
  }
}
void put(const uint8_t* from, int r, Q6_K& to) {
  to.scale[r] = half_at(from + 208);
  for (int s = 0; s < 8; s++) {  // 128 values a half: low nibbles of 64 bytes, then high ones
    const uint8_t *low = from + 64 * (s / 4) + 32 * (s % 2), *high = from + 128 + 32 * (s / 4);
    uint8_t codes[32];
    for (int k = 0; k < 32; k++) {
      codes[k] = static_cast<uint8_t>((low[k] >> 4 * (s % 4 / 2) & 15) | (high[k] >> 2 * (s % 4) & 3) << 4);
    }
    for (int h = 0; h < 2; h++) to.sub[s].scale[h][r] = static_cast<int8_t>(from[192 + 2 * s + h]);
    put_low(to.sub[s].codes, r, codes), put_upper(to.sub[s].high, r, codes);
  }
}

template <class Number>
void put(const uint8_t* from, int r, Plain<Number>& to) {
  std::memcpy(&to.v[r], from, sizeof(Number));
}

template <class Block>
void pack(const Shape& shape, const uint8_t* from, int64_t tile, uint8_t* to) {
  const Form& f = form(shape.kind);
  const int64_t blocks = shape.inputs / f.inputs;
  for (int r = 0; r < ROWS && tile * ROWS + r < shape.rows; r++) {
    const uint8_t* row = from + (tile * ROWS + r) * blocks * f.stored;
    for (int64_t i = 0; i < blocks; i++) put(row + i * f.stored, r, reinterpret_cast<Block*>(to)[i]);
  }
}

int code4(const uint8_t* codes, int r, int k) {
  const int both = codes[64 * (k % 16 / 4) + 4 * r + k % 4];
  return k < 16 ? both & 15 : both >> 4;
}
int fifth(const uint8_t* high, int r, int k) { return (high[k / 4 * 8 + r / 2] >> (4 * (r % 2) + k % 4) & 1) << 4; }
int upper(const uint8_t* high, int r, int k) {
  return (high[64 * (k / 16) + 4 * r + k % 4] >> 2 * (k % 16 / 4) & 3) << 4;
}

// Value k of row r of a block: scale * level + low, as the format defines it.
float value(const Q4_0& b, int r, int k) { return from_half(b.scale[r]) * static_cast<float>(code4(b.codes, r, k) - 8); }
float value(const Q4_1& b, int r, int k) {
  return from_half(b.scale[r]) * static_cast<float>(code4(b.codes, r, k)) + from_half(b.low[r]);
}
float value(const Q5_0& b, int r, int k) {
  return from_half(b.scale[r]) * static_cast<float>((code4(b.codes, r, k) | fifth(b.high, r, k)) - 16);
}
float value(const Q5_1& b, int r, int k) {
  return from_half(b.scale[r]) * static_cast<float>(code4(b.codes, r, k) | fifth(b.high, r, k)) + from_half(b.low[r]);
}
float value(const Q8_0& b, int r, int k) {
  return from_half(b.scale[r]) * static_cast<float>(b.codes[64 * (k / 4) + 4 * r + k % 4] - 128);
}
float value(const Q4_K& b, int r, int k) {
  const auto& s = b.sub[k / 32];
  return from_half(b.scale[r]) * s.scale[r] * static_cast<float>(code4(s.codes, r, k % 32)) -
         from_half(b.low[r]) * s.low[r];
}
float value(const Q5_K& b, int r, int k) {
  const auto& s = b.sub[k / 32];
  return from_half(b.scale[r]) * s.scale[r] *
             static_cast<float>(code4(s.codes, r, k % 32) | fifth(s.high, r, k % 32)) -
         from_half(b.low[r]) * s.low[r];
}
float value(const Q6_K& b, int r, int k) {
  const auto& s = b.sub[k / 32];
  return from_half(b.scale[r]) * s.scale[k % 32 / 16][r] *
         static_cast<float>((code4(s.codes, r, k % 32) | upper(s.high, r, k % 32)) - 32);
}

float value(const F16& b, int r, int) { return from_half(b.v[r]); }
float value(const BF16& b, int r, int) {
  const uint32_t wide = static_cast<uint32_t>(b.v[r]) << 16;
  float number;
  std::memcpy(&number, &wide, 4);
  return number;
}
float value(const F32& b, int r, int) { return b.v[r]; }

}  // namespace

int64_t tile_bytes(Kind kind, int64_t inputs) { return blocks_of(kind, inputs) * form(kind).packed; }

int64_t stored_bytes(Kind kind, int64_t inputs) { return blocks_of(kind, inputs) * form(kind).stored; }

Kind kind_named(const std::string& name) {
  for (size_t i = 0; i < std::size(FORMS); i++) {
    if (name == FORMS[i].name) return static_cast<Kind>(i);
  }
  throw std::invalid_argument("no packed form of " + name);
}

void pack_tile(const Shape& shape, const uint8_t* from, int64_t tile, uint8_t* to) {
  std::memset(to, 0, static_cast<size_t>(tile_bytes(shape.kind, shape.inputs)));
  of_kind(shape.kind, [&](auto block) { pack<typename decltype(block)::type>(shape, from, tile, to); });
}

void unpack_row(const Shape& shape, const uint8_t* packed, int64_t row, float* out) {
  const uint8_t* tile = packed + row / ROWS * tile_bytes(shape.kind, shape.inputs);
  of_kind(shape.kind, [&](auto block) {
    using Block = typename decltype(block)::type;
    const int64_t inputs = form(shape.kind).inputs;
    for (int64_t i = 0; i < shape.inputs; i++) {
      out[i] = value(reinterpret_cast<const Block*>(tile)[i / inputs], static_cast<int>(row % ROWS), static_cast<int>(i % inputs));
    }
  });
}

float from_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, rest = bits & 0x7fff;
  uint32_t wide;
  if (rest >= 0x7c00) {
    wide = sign | 0x7f800000 | (rest & 0x3ff) << 13;  // infinite or no number
  } else if (rest >= 0x400) {
    wide = sign | ((rest << 13) + (112u << 23));
  } else {  // subnormal: rest * 2^-24
    const float small = static_cast<float>(rest) * 5.9604644775390625e-8f;
    std::memcpy(&wide, &small, 4);
    wide |= sign;
  }
  float number;
  std::memcpy(&number, &wide, 4);
  return number;
}

}  // namespace puna::llama
