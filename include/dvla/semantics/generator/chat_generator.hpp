// A generator that asks a chat-completions server: vLLM, llama.cpp, Ollama, SGLang, DashScope, OpenAI by one code path.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/semantics/generation.hpp>
#include <dvla/semantics/generator/chat_exchange.hpp>
#include <dvla/semantics/generator/chat_options.hpp>

namespace dvla::inline DVLA_ABI {

/// The environment variable whose key this server gets; empty for none.
[[nodiscard]] inline std::string key_variable(chat_options const& options, base_url const& server) {
  if (!options.key_variable.empty()) return options.key_variable;
  if (!server.https) return {};  // a key that nobody named does not go through the network in the clear
  if (server.host == "api.openai.com") return "OPENAI_API_KEY";
  if (server.host.starts_with("dashscope") && server.host.ends_with(".aliyuncs.com")) return "DASHSCOPE_API_KEY";
  return {};
}

/// Sends requests, several at once, and reads the answers; see chat_options. Nothing is sent, and no key is read, before
/// generate().
class chat_generator {
 public:
  /// Throws for options that cannot be, an address that is none among them.
  explicit chat_generator(chat_options options, retry_clock clock = {})
      : options_(std::move(options)),
        server_(read_base_url(options_.base_url)),
        clock_(std::move(clock)),
        shared_(std::make_unique<chat_shared>(options_.rung, options_.limits)) {
    check(options_);
  }

  [[nodiscard]] std::string identity() const { return chat_identity(options_); }
  [[nodiscard]] chat_options const& options() const { return options_; }
  /// What was spent so far.
  [[nodiscard]] generation_usage used() const { return shared_->budget.used(); }

  /// See `generator`. Throws, once what is under way has ended, for a missing or refused key, an unknown model, a server that
  /// cannot be reached or trusted, a spent budget, and for what progress throws.
  [[nodiscard]] std::vector<generation_result> generate(std::span<generation_request const> requests,
                                                        generation_progress const& progress = {}) {
    std::vector<generation_result> results(requests.size());
    if (requests.empty()) return results;
    std::string const variable = key_variable(options_, server_);
    api_key const key = variable.empty() ? api_key() : api_key::from_environment(variable);
    std::size_t const workers = std::min(options_.parallel, requests.size());
    while (clients_.size() < workers)
      clients_.push_back(
          std::make_unique<http_client>(http_options{options_.ca_file, options_.connect_timeout, options_.max_response_bytes}));
    shared_->start();
    job work{requests, results, progress, key, {}, {}};
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 1; i < workers; ++i) threads.emplace_back([&, i] { run(work, *clients_[i]); });
      run(work, *clients_.front());
    }
    if (auto const reason = shared_->stopped()) std::rethrow_exception(reason);
    return results;
  }

 private:
  struct job {
    std::span<generation_request const> requests;
    std::vector<generation_result>& results;
    generation_progress const& progress;
    api_key const& key;
    std::atomic<std::size_t> next;
    std::mutex reporting;
  };

  /// Takes requests until there are none or the job is stopped.
  void run(job& work, http_client& client) {
    try {
      for (std::size_t i = 0; !shared_->stopped() && (i = work.next++) < work.requests.size();) {
        chat_exchange exchange({options_, server_, work.key, clock_, *shared_, client}, work.requests[i], i);
        auto result = exchange.run();
        if (!result) return;
        std::lock_guard const lock(work.reporting);
        work.results[i] = std::move(*result);
        if (work.progress) work.progress(i, work.results[i]);
      }
    } catch (...) {
      shared_->stop(std::current_exception());
    }
  }

  chat_options options_;
  base_url server_;
  retry_clock clock_;
  std::unique_ptr<chat_shared> shared_;
  std::vector<std::unique_ptr<http_client>> clients_{};
};

static_assert(generator<chat_generator>);

}  // namespace dvla::inline DVLA_ABI
