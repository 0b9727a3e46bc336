// The library's own threads: started once, asleep between jobs (nothing spins).
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/core/parallel.hpp>

namespace dvla::inline DVLA_ABI {

/// A fixed number of threads, the caller's included. A task that itself calls run() on its pool runs that job alone.
class thread_pool final : public executor {
 public:
  /// `threads` counts the calling thread; 0 takes what the machine offers.
  explicit thread_pool(std::size_t threads = 0) {
    if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
    expect(threads <= 4096, "thread_pool: ", threads, " threads asked for; give a number up to 4096, or 0 for the machine's own");
    try {
      for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (std::exception const& failure) {
      stop();
      fail("thread_pool: of ", threads, " threads only ", workers_.size() + 1, " could be started (", failure.what(), "); ask for fewer");
    }
  }

  thread_pool(thread_pool const&) = delete;
  thread_pool& operator=(thread_pool const&) = delete;

  ~thread_pool() override { stop(); }

  [[nodiscard]] std::size_t threads() const noexcept override { return workers_.size() + 1; }

  void run(std::size_t tasks, task_ref task) override {
    if (tasks == 0) return;
    job mine{task, tasks};
    bool alone = workers_.empty() || tasks == 1;
    if (!alone) {
      std::lock_guard const lock(mutex_);
      alone = current_ != nullptr;
      if (!alone) current_ = &mine;
    }
    if (!alone) wake_.notify_all();
    take_tasks(mine);
    if (!alone) {
      std::unique_lock lock(mutex_);
      current_ = nullptr;
      done_.wait(lock, [&] { return mine.helpers == 0; });
    }
    if (mine.failure) std::rethrow_exception(mine.failure);
  }

 private:
  void stop() {
    {
      std::lock_guard const lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  struct job {
    task_ref task;
    std::size_t tasks;
    std::size_t next = 0;          // guarded by claim
    std::size_t helpers = 0;       // guarded by the pool's mutex
    std::size_t failed_index = 0;  // guarded by claim
    std::exception_ptr failure{};
    std::mutex claim{};
  };

  static void take_tasks(job& j) {
    for (;;) {
      std::size_t index = 0;
      {
        std::lock_guard const lock(j.claim);
        if (j.next == j.tasks) return;
        index = j.next++;
      }
      try {
        j.task(index);
      } catch (...) {
        std::lock_guard const lock(j.claim);
        if (!j.failure || index < j.failed_index) {
          j.failure = std::current_exception();
          j.failed_index = index;
        }
      }
    }
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || current_ != nullptr; });
      if (stopping_) return;
      job& j = *current_;
      ++j.helpers;
      lock.unlock();
      take_tasks(j);
      lock.lock();
      if (current_ == &j) current_ = nullptr;  // nothing left to take: do not pick the same job up again
      if (--j.helpers == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  job* current_ = nullptr;
  bool stopping_ = false;
};

}  // namespace dvla::inline DVLA_ABI
