// kernels.inl, attention.inl and odds.inl for avx512; CMakeLists.txt gives the flags.
#if defined(__x86_64__)
#include "lanes_avx512.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels.h"

namespace puna::llama {
namespace avx512 {
#include "kernels.inl"
#include "attention.inl"
#include "odds.inl"
}  // namespace avx512

extern const Kernels avx512_kernels;
const Kernels avx512_kernels = {"avx512", avx512::multiply, avx512::take, avx512::norm, avx512::gate,
                                avx512::add_to, avx512::turn, avx512::narrow, avx512::code<int8_t>,
                                avx512::code<int16_t>, avx512::attend<uint16_t>, avx512::attend<int8_t>, avx512::busy,
                                avx512::tops, avx512::weigh};

}  // namespace puna::llama
#endif
