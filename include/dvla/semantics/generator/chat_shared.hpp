// What the requests of one generator share: what was learnt about the server, when it wants to be left alone, whether to stop.
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>

#include <dvla/core/config.hpp>
#include <dvla/semantics/generator/budget.hpp>
#include <dvla/semantics/generator/chat_error.hpp>
#include <dvla/semantics/generator/retry.hpp>

namespace dvla::inline DVLA_ABI {

/// For any thread.
class chat_shared {
 public:
  chat_shared(chat_rung first, generation_limits limits) : budget(limits), mode_{first, false, false} {}

  generation_budget budget;

  [[nodiscard]] chat_mode mode() const {
    std::lock_guard const lock(mutex_);
    return mode_;
  }
  /// A request sent in the mode `sent` met this. What another request has changed meanwhile is not changed twice.
  void adapt(chat_verdict verdict, chat_mode sent) {
    std::lock_guard const lock(mutex_);
    if (verdict == chat_verdict::step_down && mode_.rung == sent.rung)
      mode_.rung = sent.rung == chat_rung::json_schema ? chat_rung::json_object : chat_rung::plain;
    if (verdict == chat_verdict::rename_max) mode_.completion_tokens = true;
    if (verdict == chat_verdict::stream) mode_.stream = true;
  }

  /// Nobody sends anything before this time.
  void pause_until(retry_clock::time when) {
    std::lock_guard const lock(mutex_);
    paused_until_ = std::max(paused_until_, when);
  }
  [[nodiscard]] retry_clock::time paused_until() const {
    std::lock_guard const lock(mutex_);
    return paused_until_;
  }

  /// Ends the job; the first reason is the one that counts.
  void stop(std::exception_ptr reason) {
    std::lock_guard const lock(mutex_);
    if (!reason_) reason_ = std::move(reason);
  }
  [[nodiscard]] std::exception_ptr stopped() const {
    std::lock_guard const lock(mutex_);
    return reason_;
  }
  /// Before a new job.
  void start() {
    std::lock_guard const lock(mutex_);
    reason_ = nullptr;
  }

 private:
  mutable std::mutex mutex_{};
  chat_mode mode_;
  retry_clock::time paused_until_{};
  std::exception_ptr reason_{};
};

}  // namespace dvla::inline DVLA_ABI
