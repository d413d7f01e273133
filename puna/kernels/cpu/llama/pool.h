// Threads that work a forward step together: they spin for a moment between phases, and sleep between steps.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace puna::llama {

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // work(thread) on all threads, this one being number 0; back when all are done.
  void run(const std::function<void(int)>& work);

  // From within `run`: all threads wait for each other. Then `share` begins anew.
  void wait();

  // From within `run`: the next `most` of `count` pieces that no thread has taken; false when none is left.
  bool share(int64_t count, int64_t most, int64_t& begin, int64_t& end);

 private:
  void serve(int thread);

  int threads_;
  std::vector<std::thread> team_;
  const std::function<void(int)>* work_ = nullptr;
  alignas(64) std::atomic<uint32_t> step_{0};  // counts runs; the team sleeps on it
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  alignas(64) std::atomic<int64_t> taken_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> over_{false};
};

}  // namespace puna::llama
