// How weights lie in memory for the kernels: 16 rows of a matrix side by side, 32 inputs at a time, so that one
// load gives 4 neighbouring inputs of each of 16 rows. The bytes a weight takes are those of the GGUF block, but
// for Q4_K and Q5_K (4.625 and 5.625 bits: their 6-bit scales lie open).
//
//     codes[64 * g + 4 * r + j]    low half: input 4 * g + j of row r; high half: input 16 + 4 * g + j (g < 4)
//     high[8 * g ...]              64 bits, one for each of 4 inputs of 16 rows: the fifth bit of group g (g < 8)
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace puna::llama {

constexpr int ROWS = 16;    // of a tile: one 32-bit lane each
constexpr int BLOCK = 32;   // inputs that share a scale, of weights and of activations
constexpr int SUPER = 256;  // inputs of a K block

enum class Kind { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, F16, BF16, F32 };

struct Q4_0 {
  uint16_t scale[ROWS];
  uint8_t codes[256];
};
struct Q4_1 {
  uint16_t scale[ROWS], low[ROWS];
  uint8_t codes[256];
};
struct Q5_0 {
  uint16_t scale[ROWS];
  uint8_t codes[256], high[64];
};
struct Q5_1 {
  uint16_t scale[ROWS], low[ROWS];
  uint8_t codes[256], high[64];
};
struct Q8_0 {  // codes[64 * g + 4 * r + j]: input 4 * g + j of row r, plus 128 (g < 8)
  uint16_t scale[ROWS];
  uint8_t codes[512];
};
struct Q4_K {
  uint16_t scale[ROWS], low[ROWS];
  struct {
    uint8_t scale[ROWS], low[ROWS], codes[256];
  } sub[8];
};
struct Q5_K {
  uint16_t scale[ROWS], low[ROWS];
  struct {
    uint8_t scale[ROWS], low[ROWS], codes[256], high[64];
  } sub[8];
};
struct Q6_K {  // a scale for every 16 inputs; high[64 * h + 4 * r + j], bits 2 * g: of group 4 * h + g
  uint16_t scale[ROWS];
  struct {
    int8_t scale[2][ROWS];
    uint8_t codes[256], high[128];
  } sub[8];
};
template <class Number>
struct Plain {  // input i of 16 rows side by side
  Number v[ROWS];
};
struct F16 : Plain<uint16_t> {};
struct BF16 : Plain<uint16_t> {};
struct F32 : Plain<float> {};

// work(Type<Block>()) with the block of this kind.
template <class Block>
struct Type {
  using type = Block;
};
template <class Work>
void of_kind(Kind kind, Work work) {
  switch (kind) {
    case Kind::Q4_0: return work(Type<Q4_0>());
    case Kind::Q4_1: return work(Type<Q4_1>());
    case Kind::Q5_0: return work(Type<Q5_0>());
    case Kind::Q5_1: return work(Type<Q5_1>());
    case Kind::Q8_0: return work(Type<Q8_0>());
    case Kind::Q4_K: return work(Type<Q4_K>());
    case Kind::Q5_K: return work(Type<Q5_K>());
    case Kind::Q6_K: return work(Type<Q6_K>());
    case Kind::F16: return work(Type<F16>());
    case Kind::BF16: return work(Type<BF16>());
    case Kind::F32: return work(Type<F32>());
  }
}
inline bool is_plain(Kind kind) { return kind == Kind::F16 || kind == Kind::BF16 || kind == Kind::F32; }

struct Shape {
  Kind kind;
  int64_t rows, inputs;
  int64_t tiles() const { return (rows + ROWS - 1) / ROWS; }
};

// Bytes of 16 rows of `inputs` inputs, and of one row in the file. std::invalid_argument if they do not divide
// into blocks.
int64_t tile_bytes(Kind kind, int64_t inputs);
int64_t stored_bytes(Kind kind, int64_t inputs);

// Kind by its GGUF name; std::invalid_argument for one that has no packed form.
Kind kind_named(const std::string& name);

// Tile number `tile` of a matrix stored as GGUF's blocks, rows `first_row ...` of it being in `from`; rows beyond
// the last are zeros.
void pack_tile(const Shape& shape, const uint8_t* from, int64_t tile, uint8_t* to);

// Row `row` of a packed matrix as floats: what an embedding looks up, and what a test compares.
void unpack_row(const Shape& shape, const uint8_t* packed, int64_t row, float* out);

float from_half(uint16_t bits);

}  // namespace puna::llama
