// Work in parallel whose result does not depend on the number of threads: the split into chunks is a function of the
// work alone. An embedder replaces the threads by deriving from executor.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// A reference to a callable void(std::size_t): two pointers, no allocation. The callable must outlive it.
class task_ref {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, task_ref>)
  task_ref(F&& f)  // NOLINT: a reference is meant to bind implicitly
      : object_(const_cast<void*>(static_cast<void const*>(std::addressof(f)))),
        call_([](void* object, std::size_t i) { (*static_cast<std::remove_reference_t<F>*>(object))(i); }) {}

  void operator()(std::size_t i) const { call_(object_, i); }

 private:
  void* object_;
  void (*call_)(void*, std::size_t);
};

/// Whoever runs tasks: the library's thread_pool, or the embedder's own.
class executor {
 public:
  virtual ~executor() = default;
  /// Runs task(0) .. task(tasks - 1), each exactly once, in any order and on any thread, and returns when all are done.
  /// If tasks throw, the exception of the lowest index is rethrown here after the others have ended.
  virtual void run(std::size_t tasks, task_ref task) = 0;
  /// How many tasks may run at once; a hint, never a divisor of the work.
  [[nodiscard]] virtual std::size_t threads() const noexcept = 0;
};

/// Runs task(0) .. task(tasks - 1) on the executor, or one after another on this thread where it is null or would have one task.
/// No template, and so one copy of a task's code, whoever runs it: a loop inlined here beside it would compile every body twice.
inline void run_tasks(executor* pool, std::size_t tasks, task_ref task) {
  if (pool != nullptr && tasks > 1) return pool->run(tasks, task);
  for (std::size_t i = 0; i < tasks; ++i) task(i);
}

/// Calls body(begin, end) for consecutive chunks of `grain` indices that cover [0, count); a null executor is this thread.
/// The chunks do not depend on the executor, so a body that is a function of its chunk gives the same bits on any machine.
template <class Body>
void parallel_for(executor* pool, std::size_t count, std::size_t grain, Body&& body) {
  grain = std::max<std::size_t>(grain, 1);
  auto const chunk = [&](std::size_t i) { body(i * grain, std::min(count, (i + 1) * grain)); };
  run_tasks(pool, (count + grain - 1) / grain, task_ref(chunk));
}

}  // namespace dvla::inline DVLA_ABI
