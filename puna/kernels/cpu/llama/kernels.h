// What one set of instructions can do for a forward step. The functions are written once, in kernels.inl and
// attention.inl, and compiled for each set; `kernels` chooses at run time.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "packed.h"

namespace puna::llama {

// Rows of inputs as weights want them: plain numbers, or whole numbers from -127 to 127 with a scale for each 32.
// Of codes, groups of rows lie together: block i of row m is number at(m, i), so that a tile that is multiplied by
// all rows of a group finds what it needs next side by side.
struct Activations {
  static constexpr int64_t GROUP = 12;
  int64_t inputs = 0, group = 1;
  std::vector<float> values;  // (rows, inputs)
  std::vector<int8_t> codes;  // (blocks, 32)
  std::vector<float> scale;   // (blocks,)
  std::vector<float> sum;     // (blocks,): scale times the sum of 32 codes, for formats with a low
  std::vector<int32_t> less;  // (blocks, 2): minus the sum of 16 codes, for codes that are shifted
  std::vector<int32_t> less_both;  // (blocks,): of 32

  void make_room(int64_t rows, int64_t width);
  void shape(int64_t rows, int64_t width) { inputs = width, group = rows < GROUP ? rows : GROUP; }
  void take_off(int64_t m, float* numbers) const;  // what the codes of row m say, off these (inputs,)
  int64_t at(int64_t m, int64_t i) const { return (m / group * (inputs / BLOCK) + i) * group + m % group; }
};

struct Heads {  // queries of one key-value head, over a cache in the form that cache.h says
  const uint16_t* queries;   // (rows, Dh) bf16, scaled; over codes whole numbers from -32767 to 32767
  const float* scales;       // (rows,): what these are to be multiplied by
  const int32_t* seen;       // (rows,): how many positions each may look at, rising
  int rows, width;           // at most 8 rows; Dh, a multiple of 16
  const uint8_t *keys, *values;  // of page 0 of this head
  const int32_t* pages;      // which page holds positions page * i ...
  int64_t stride;            // bytes from a page to the next
  int page;                  // positions of a page, a multiple of 16
  int first, last;           // positions first (a multiple of 16) ... last - 1 are mixed here
};
struct Mixed {       // a part of attention: out = sum of exp(score - most) * value, total = sum of exp(score - most)
  float *out;        // (rows, Dh)
  float *most, *total;  // (rows,)
};

struct Kernels {
  const char* name;
  // 16 outputs of each of `rows` rows of x from `first`: out[m * stride + 0 ... 15].
  void (*multiply)(Kind kind, const uint8_t* tile, const Activations& x, int64_t first, int64_t rows, float* out,
                   int64_t stride);
  // Row m of x from numbers (inputs,): plain, in codes, or both.
  void (*take)(const float* numbers, Activations& x, int64_t m, bool plain, bool codes);
  // RMSNorm: numbers (n,) to unit mean square, times weight.
  void (*norm)(const float* numbers, const float* weight, int64_t n, float eps, float* out);
  void (*gate)(float* gate, const float* up, int64_t n);  // gate = silu(gate) * up
  void (*add)(float* to, const float* more, int64_t n);
  // One head (Dh,), neighbours turned by their angle: cos_sin holds cos of each pair twice, then -sin, sin.
  void (*turn)(float* head, const float* cos_sin, int width);
  void (*narrow)(const float* numbers, float scale, int64_t n, uint16_t* out);  // times scale, to bf16
  // Numbers (n,) as whole ones from -127 or -32767, to the nearest; gives what these are to be multiplied by.
  float (*to_bytes)(const float* numbers, int64_t n, int8_t* out);
  float (*to_words)(const float* numbers, int64_t n, int16_t* out);
  void (*attend)(const Heads& heads, const Mixed& mixed, float* room);  // room: ATTEND_ROOM floats
  void (*attend_codes)(const Heads& heads, const Mixed& mixed, float* room);
  int32_t (*busy)(int64_t turns);  // BUSY_PRODUCTS multiplications of bytes a turn, to learn how fast they can be
  // Of each SIDE numbers of a row: the greatest, NaN where one is; and the sum of exp((x - most) * per).
  void (*tops)(const double* row, int64_t blocks, double* most);
  void (*weigh)(const double* row, int64_t blocks, double most, double per, double* sums);
};
constexpr int BUSY_SUMS = 12, BUSY_PRODUCTS = BUSY_SUMS * ROWS * 4;
constexpr int64_t SIDE = 64;
constexpr int MOST_ROWS = 8, PART = 256;  // queries at once; positions at once
constexpr int ATTEND_ROOM = 2 * MOST_ROWS * PART;
constexpr int64_t WIDEST = 512;  // Dh of a cache of codes: sums of so many products fit 32 bits

// Instruction sets that this machine has, the widest first.
std::vector<std::string> instructions();

// The kernels of one of them, "" for the first; std::invalid_argument for one that this machine lacks.
const Kernels& kernels(const std::string& name = "");

}  // namespace puna::llama
