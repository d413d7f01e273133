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

  // From within `run`, by all threads: work(i) for each i below `count`, once. Each thread has a stretch of its own
  // and goes through it in order, as memory is read fastest; who is through helps another from its end.
  template <class Work>
  void share(int thread, int64_t count, Work work) {
    int64_t begin, end;
    while (take(thread, count, begin, end)) {
      for (int64_t i = begin; i < end; i++) work(i);
    }
  }

 private:
  struct alignas(64) Left {  // of a thread's stretch: phase (16 bits), begin, end (24 bits each)
    std::atomic<uint64_t> word{~uint64_t{0}};
  };
  void serve(int thread);
  bool take(int thread, int64_t count, int64_t& begin, int64_t& end);

  int threads_;
  std::vector<Left> left_;
  std::vector<std::thread> team_;
  const std::function<void(int)>* work_ = nullptr;
  alignas(64) std::atomic<uint32_t> step_{0};  // counts runs; the team sleeps on it
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> over_{false};
};

}  // namespace puna::llama
