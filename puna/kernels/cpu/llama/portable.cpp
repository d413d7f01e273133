// kernels.inl, attention.inl and odds.inl for portable; CMakeLists.txt gives the flags.
#include "lanes_portable.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels.h"

namespace puna::llama {
namespace portable {
#include "kernels.inl"
#include "attention.inl"
#include "odds.inl"
}  // namespace portable

extern const Kernels portable_kernels;
const Kernels portable_kernels = {"portable", portable::multiply, portable::take, portable::norm, portable::gate,
                                portable::add_to, portable::turn, portable::narrow, portable::code<int8_t>,
                                portable::code<int16_t>, portable::attend<uint16_t>, portable::attend<int8_t>, portable::busy,
                                portable::tops, portable::weigh};

}  // namespace puna::llama
