// What a job may spend.
#pragma once

#include <cstdint>
#include <mutex>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// The most that all requests of a generator may take together; 0 is no limit.
struct generation_limits {
  std::uint64_t requests = 0;  ///< HTTP requests, tries again included
  std::uint64_t tokens = 0;    ///< prompt and completion; those in flight when it is spent still end
};

/// What was spent.
struct generation_usage {
  std::uint64_t requests = 0, prompt_tokens = 0, completion_tokens = 0;
};

/// Counts against limits, from any thread.
class generation_budget {
 public:
  explicit generation_budget(generation_limits limits) : limits_(limits) {}

  /// Counts a request that is about to be sent; throws where it is not covered.
  void take_request() {
    std::lock_guard const lock(mutex_);
    std::uint64_t const tokens = used_.prompt_tokens + used_.completion_tokens;
    expect(limits_.requests == 0 || used_.requests < limits_.requests, "the budget of ", limits_.requests,
           " requests is spent; answers so far are kept, raise it to go on");
    expect(limits_.tokens == 0 || tokens < limits_.tokens, "the budget of ", limits_.tokens, " tokens is spent (", tokens,
           " used); answers so far are kept, raise it to go on");
    ++used_.requests;
  }
  void add_tokens(std::uint64_t prompt, std::uint64_t completion) {
    std::lock_guard const lock(mutex_);
    used_.prompt_tokens += prompt;
    used_.completion_tokens += completion;
  }
  [[nodiscard]] generation_usage used() const {
    std::lock_guard const lock(mutex_);
    return used_;
  }

 private:
  generation_limits limits_;
  generation_usage used_{};
  mutable std::mutex mutex_{};
};

}  // namespace dvla::inline DVLA_ABI
