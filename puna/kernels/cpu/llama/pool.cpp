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

Pool::Pool(int threads) : threads_(std::max(1, threads)) {
  for (int t = 1; t < threads_; t++) team_.emplace_back([this, t] { serve(t); });
}

Pool::~Pool() {
  over_ = true;
  move_on(step_, sleepers_);
  for (auto& thread : team_) thread.join();
}

void Pool::run(const std::function<void(int)>& work) {
  work_ = &work;
  taken_ = 0;
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
    taken_.store(0, std::memory_order_relaxed);
    move_on(phase_, sleepers_);
    return;
  }
  wait_while(phase_, now, sleepers_);
}

bool Pool::share(int64_t count, int64_t most, int64_t& begin, int64_t& end) {
  begin = taken_.fetch_add(most, std::memory_order_relaxed);
  end = std::min(begin + most, count);
  return begin < count;
}

}  // namespace puna::llama
