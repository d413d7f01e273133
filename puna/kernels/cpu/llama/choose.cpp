// Which set of instructions this machine has.
#include <stdexcept>

#include "kernels.h"

namespace puna::llama {

extern const Kernels avx512_kernels, avx2_kernels, portable_kernels;

namespace {
std::vector<const Kernels*> found() {
  std::vector<const Kernels*> all;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) {
    all.push_back(&avx512_kernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    all.push_back(&avx2_kernels);
  }
#endif
  all.push_back(&portable_kernels);
  return all;
}
}  // namespace

std::vector<std::string> instructions() {
  std::vector<std::string> names;
  for (const Kernels* k : found()) names.emplace_back(k->name);
  return names;
}

const Kernels& kernels(const std::string& name) {
  for (const Kernels* k : found()) {
    if (name.empty() || name == k->name) return *k;
  }
  throw std::invalid_argument("this machine has no " + name);
}

void Activations::make_room(int64_t rows, int64_t width) {
  shape(rows, width);
  const auto most = [&](auto& v, int64_t size) {
    if (static_cast<int64_t>(v.size()) < size) v.resize(static_cast<size_t>(size));
  };
  const int64_t blocks = (rows + group - 1) / group * group * (width / BLOCK);
  most(values, rows * width), most(codes, blocks * BLOCK), most(scale, blocks), most(sum, blocks);
  most(less, 2 * blocks), most(less_both, blocks);
}

void Activations::take_off(int64_t m, float* numbers) const {
  for (int64_t i = 0; i < inputs; i++) {
    const int64_t block = at(m, i / BLOCK);
    numbers[i] -= scale[static_cast<size_t>(block)] * codes[static_cast<size_t>(block * BLOCK + i % BLOCK)];
  }
}

}  // namespace puna::llama
