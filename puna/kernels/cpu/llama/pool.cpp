#include "pool.h"

#include <algorithm>
#include <chrono>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace puna::llama {
namespace {

constexpr auto SPIN = std::chrono::microseconds(50);  // longer than a phase of decoding; a wake-up takes about as long

inline void breathe() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Until `word` is no longer `old`: a bounded spin, then sleep.
void wait_while(std::atomic<uint32_t>& word, uint32_t old, std::atomic<int>& sleepers) {
  const auto until = std::chrono::steady_clock::now() + SPIN;
  while (true) {
    for (int i = 0; i < 64; i++) {
      if (word.load(std::memory_order_acquire) != old) return;
      breathe();
    }
    if (std::chrono::steady_clock::now() > until) break;
  }
  sleepers.fetch_add(1);
  while (word.load() == old) {
#if defined(__linux__)
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
#else
    std::this_thread::yield();
#endif
  }
  sleepers.fetch_sub(1);
}

// `word` goes on. Only where someone sleeps does it cost a system call.
void move_on(std::atomic<uint32_t>& word, [[maybe_unused]] std::atomic<int>& sleepers) {
  word.fetch_add(1);
#if defined(__linux__)
  if (sleepers.load() > 0) syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
#endif
}

}  // namespace

Pool::Pool(int threads) : threads_(std::max(1, threads)), left_(static_cast<size_t>(threads_)) {
  for (int t = 1; t < threads_; t++) team_.emplace_back([this, t] { serve(t); });
}

Pool::~Pool() {
  over_ = true;
  move_on(step_, sleepers_);
  for (auto& thread : team_) thread.join();
}

void Pool::run(const std::function<void(int)>& work) {
  work_ = &work;
  move_on(step_, sleepers_);
  work(0);
  wait();
}

void Pool::serve(int thread) {
  for (uint32_t seen = 0;;) {
    wait_while(step_, seen, sleepers_);
    seen++;
    if (over_) return;
    (*work_)(thread);
    wait();
  }
}

void Pool::wait() {
  const uint32_t now = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    move_on(phase_, sleepers_);
    return;
  }
  wait_while(phase_, now, sleepers_);
}

// A stretch that bears another phase's number is whole: whoever comes first, be it a helper, says so.
bool Pool::take(int thread, int64_t count, int64_t& begin, int64_t& end) {
  constexpr uint64_t PIECES = (1 << 24) - 1;
  const uint64_t phase = phase_.load(std::memory_order_relaxed) & 0xffff;
  for (int i = 0; i < threads_; i++) {
    const int whose = (thread + i) % threads_;
    std::atomic<uint64_t>& left = left_[static_cast<size_t>(whose)].word;
    for (uint64_t word = left.load(std::memory_order_relaxed);;) {
      const bool whole = word >> 48 != phase;
      const int64_t first = whole ? count * whose / threads_ : static_cast<int64_t>(word >> 24 & PIECES);
      const int64_t last = whole ? count * (whose + 1) / threads_ : static_cast<int64_t>(word & PIECES);
      const int64_t taken = std::max<int64_t>(1, (last - first) / (i == 0 ? 8 : 2));
      begin = i == 0 ? first : last - taken, end = begin + taken;
      const int64_t rest_first = i == 0 ? end : first, rest_last = i == 0 ? last : begin;
      if (first == last) break;
      const uint64_t rest = phase << 48 | static_cast<uint64_t>(rest_first) << 24 | static_cast<uint64_t>(rest_last);
      if (left.compare_exchange_weak(word, rest, std::memory_order_relaxed)) return true;
    }
  }
  return false;
}

}  // namespace puna::llama
