// kernels.inl, attention.inl and odds.inl for avx2; CMakeLists.txt gives the flags.
#if defined(__x86_64__)
#include "lanes_avx2.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels.h"

namespace puna::llama {
namespace avx2 {
#include "kernels.inl"
#include "attention.inl"
#include "odds.inl"
}  // namespace avx2

extern const Kernels avx2_kernels;
const Kernels avx2_kernels = {"avx2", avx2::multiply, avx2::take, avx2::norm, avx2::gate,
                                avx2::add_to, avx2::turn, avx2::narrow, avx2::code<int8_t>,
                                avx2::code<int16_t>, avx2::attend<uint16_t>, avx2::attend<int8_t>, avx2::busy,
                                avx2::tops, avx2::weigh};

}  // namespace puna::llama
#endif
