// One request's way to its answer: tried again, asked in another form, given more room, put once more; or a failure that says why.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/semantics/generation.hpp>
#include <dvla/semantics/generator/api_key.hpp>
#include <dvla/semantics/generator/base_url.hpp>
#include <dvla/semantics/generator/chat_answer.hpp>
#include <dvla/semantics/generator/chat_body.hpp>
#include <dvla/semantics/generator/chat_error.hpp>
#include <dvla/semantics/generator/chat_options.hpp>
#include <dvla/semantics/generator/chat_shared.hpp>
#include <dvla/semantics/generator/http.hpp>
#include <dvla/semantics/generator/image_part.hpp>
#include <dvla/semantics/generator/reply.hpp>

namespace dvla::inline DVLA_ABI {

/// What an exchange works with; all of it outlives the exchange.
struct chat_link {
  chat_options const& options;
  base_url const& server;
  api_key const& key;
  retry_clock const& clock;
  chat_shared& shared;
  http_client& http;
};

class chat_exchange {
 public:
  /// `stream` names the random numbers of its waits: the request's place in the job.
  chat_exchange(chat_link link, generation_request const& request, std::size_t stream)
      : link_(link),
        request_(request),
        deadline_(link.clock.now() + link.options.deadline),
        max_tokens_(link.options.max_tokens),
        random_(link.options.seed, draw::back_off, static_cast<std::uint32_t>(stream), 0) {}

  /// The result; nothing where the job was stopped meanwhile. Throws dvla::error for what makes further requests pointless.
  [[nodiscard]] std::optional<generation_result> run() {
    try {
      static_cast<void>(body_text());  // what cannot be sent is this request's own failure
      for (auto const& path : request_.images)
        image_urls_.push_back(data_url(read_image_part(path, link_.options.max_image_bytes)));
    } catch (error const& problem) {
      return failure(problem.what());
    }
    for (;;) {
      if (auto late = wait_for_turn()) return late;
      if (link_.shared.stopped()) return std::nullopt;
      link_.shared.budget.take_request();
      ++requests_;
      mode_ = link_.shared.mode();
      if (auto finished = consider(send())) return finished;
    }
  }

 private:
  using clock_time = retry_clock::time;

  [[nodiscard]] std::array<std::string, 2> headers() const { return {"Content-Type: application/json", link_.key.header()}; }

  [[nodiscard]] std::string body_text() const {
    return detail::canonical_text(chat_body(link_.options, request_, image_urls_, mode_, max_tokens_, refused_), "the question");
  }

  http_response send() {
    auto const left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - link_.clock.now());
    auto const timeout = std::min(left, link_.options.call_timeout);
    auto response = link_.http.post(link_.server.text + "/chat/completions", headers(), body_text(), timeout);
    elapsed_ += response.elapsed;
    return response;
  }

  /// Waits for the back-off and for a pause that the server asked for. A failure where the deadline comes first.
  std::optional<generation_result> wait_for_turn() {
    constexpr std::chrono::milliseconds slice{100};  // to notice that the job was stopped
    for (;;) {
      clock_time const now = link_.clock.now(), turn = std::max(not_before_, link_.shared.paused_until());
      if (std::max(now, turn) >= deadline_)
        return failure(concat("its deadline of ", link_.options.deadline.count(), " ms leaves no further try", last_words()));
      if (turn <= now || link_.shared.stopped()) return std::nullopt;
      auto const left = std::chrono::ceil<std::chrono::milliseconds>(turn - now);
      link_.clock.sleep(std::min(left, slice));
    }
  }

  /// Nothing where the request is to be sent again.
  std::optional<generation_result> consider(http_response const& response) {
    switch (response.end) {
      case http_end::answered:
        break;
      case http_end::unusable:
      case http_end::untrusted:
        stop(" cannot be asked: ", response.problem,
             response.end == http_end::untrusted ? "; check the address, or give the file of its certificate authority" : "");
      case http_end::too_large:
        return failure(concat("the server's answer has more than ", link_.options.max_response_bytes, " bytes"));
      case http_end::unreachable:
        return try_again(concat("the server cannot be reached: ", said(response.problem)), {}, true);
      case http_end::timed_out:
      case http_end::broken:
        return try_again(concat("the connection failed: ", said(response.problem)), {}, false);
    }
    server_error error{};
    if (response.status < 200 || response.status >= 300) error = read_server_error(link_.key.hide(response.body));
    chat_verdict const verdict = judge(response.status, error, mode_);
    switch (verdict) {
      case chat_verdict::answered:
        return read(response);
      case chat_verdict::retry:
        return try_again(status_words(response.status, error), response, false);
      case chat_verdict::fatal:
        stop(": ", status_words(response.status, error), concat(remedy_for(response.status, error), models(response)));
      case chat_verdict::failed:
        return failure(concat(status_words(response.status, error), remedy_for(response.status, error)));
      case chat_verdict::step_down:
      case chat_verdict::rename_max:
      case chat_verdict::stream:
        break;
    }
    link_.shared.adapt(verdict, mode_);
    if (++adaptations_ > 8) return failure(concat(status_words(response.status, error), ", in whatever form it is asked"));
    return std::nullopt;
  }

  /// An answer of status 2xx.
  std::optional<generation_result> read(http_response const& response) {
    bool const streamed = mode_.stream || response.content_type.starts_with("text/event-stream");
    json_reading body = streamed ? read_chat_stream(response.body) : detail::read_json(response.body);
    if (!body.ok()) {
      std::string const problem = concat("the server's answer (", kind_of_body(response), ") ", body.problem);
      if (response.content_type.starts_with("text/html"))
        return failure(problem + "; check the server's address, which usually ends in /v1");
      return try_again(problem, {}, false);
    }
    link_.key.hide_in(body.value);
    if (body.value.is_object() && body.value.contains("error") && !body.value["error"].is_null() && !body.value.contains("choices"))
      return try_again(status_words(response.status, read_server_error(body.value.dump())), {}, false);
    chat_answer const answer = read_chat_answer(body.value);
    count_tokens(answer);
    if (!answer.refusal.empty()) return failure(concat("the model refused: ", said(answer.refusal)));
    if (answer.finish_reason == "content_filter") return failure("the server's content filter held the answer back");
    json_reading reply = read_reply(answer.text, request_.schema);
    if (reply.ok()) return success(std::move(reply.value), answer);
    return ask_better(answer, answer.problem.empty() ? reply.problem : answer.problem);
  }

  /// More room for a reply that was cut, a second chance for one that says something else.
  std::optional<generation_result> ask_better(chat_answer const& answer, std::string const& problem) {
    bool const cut = answer.finish_reason == "length";
    if (cut && max_tokens_ == link_.options.max_tokens) {
      max_tokens_ *= 2;
      return std::nullopt;
    }
    if (answer.text.empty() && !cut) return try_again(problem, {}, false);
    if (!refused_.any() && !answer.text.empty()) {
      refused_ = {answer.text, problem};
      return std::nullopt;
    }
    return failure(
        concat(problem, cut ? concat(", cut at ", max_tokens_, " tokens") : "", "; the model wrote: ", said(answer.text)));
  }

  std::optional<generation_result> try_again(std::string problem, http_response const& response, bool unreachable) {
    last_problem_ = std::move(problem);
    if (++failed_ >= link_.options.retry.tries) {
      std::string const words = concat(last_problem_, " (tried ", failed_, failed_ == 1 ? " time)" : " times)");
      if (unreachable) stop(": ", words, "; is it running, and is the address right?");
      return failure(words);
    }
    clock_time const when = link_.clock.now() + retry_delay(link_.options.retry, failed_, random_.uniform(), response.retry_after);
    not_before_ = when;
    if (response.status == 429 || response.retry_after) link_.shared.pause_until(when);
    return std::nullopt;
  }

  void count_tokens(chat_answer const& answer) {
    prompt_tokens_ += answer.prompt_tokens;
    completion_tokens_ += answer.completion_tokens;
    // A server that does not count is counted by four bytes a token, so that a budget still ends.
    auto const estimate = answer.usage_known ? 0 : (request_.prompt.size() + answer.text.size()) / 4;
    link_.shared.budget.add_tokens(answer.prompt_tokens + estimate, answer.completion_tokens);
  }

  generation_result success(nlohmann::json reply, chat_answer const& answer) const {
    nlohmann::json provenance{
        {"generator", "chat"},
        {"provider", link_.options.provider},
        {"model", link_.options.model},
        {"served_model", answer.model},
        {"fingerprint", answer.fingerprint},
        {"prompt_id", request_.prompt_id},
        {"rung", std::string(to_string(mode_.rung))},
        {"asked_again", refused_.any()},
        {"max_tokens", max_tokens_},
        {"finish_reason", answer.finish_reason},
        {"usage", {{"prompt_tokens", prompt_tokens_}, {"completion_tokens", completion_tokens_}, {"requests", requests_}}},
        {"latency_ms", elapsed_.count()}};
    return {std::move(reply), {}, std::move(provenance), answer.text};
  }

  generation_result failure(std::string_view why) const {
    return {{},
            link_.key.hide(concat(detail::request_name(request_), ": ", why)),
            {{"generator", "chat"},
             {"provider", link_.options.provider},
             {"model", link_.options.model},
             {"prompt_id", request_.prompt_id}},
            {}};
  }

  /// Ends the whole job.
  [[noreturn]] void stop(std::string_view how, std::string const& why, std::string_view remedy) const {
    fail(link_.key.hide(concat(link_.server.text, how, why, remedy)));
  }

  /// What a model, a server or libcurl said, fit for a message.
  [[nodiscard]] std::string said(std::string const& text) const { return detail::excerpt(link_.key.hide(text)); }
  [[nodiscard]] std::string last_words() const { return last_problem_.empty() ? "" : concat("; before it, ", last_problem_); }

  static std::string kind_of_body(http_response const& response) {
    return response.content_type.empty() ? "of no type" : concat("of type ", detail::excerpt(response.content_type, 60));
  }
  static std::string status_words(long status, server_error const& error) {
    std::string out = concat("the server answered ", status);
    if (!error.message.empty()) out += concat(", '", error.message, "'");
    if (!error.code.empty() && error.message.find(error.code) == std::string::npos) out += concat(" (", error.code, ")");
    return out;
  }

  /// "; it offers a, b": what /models lists, where a model or address was not found.
  std::string models(http_response const& response) {
    if (response.status != 404) return {};
    auto const list = link_.http.get(link_.server.text + "/models", headers(),
                                     std::min(link_.options.call_timeout, std::chrono::milliseconds(10'000)));
    if (list.end != http_end::answered || list.status != 200) return {};
    json_reading const body = detail::read_json(link_.key.hide(list.body));
    if (!body.ok() || !body.value.is_object() || !body.value.contains("data") || !body.value["data"].is_array()) return {};
    std::string names;
    for (auto const& entry : body.value["data"])
      if (std::string const name = detail::string_member(entry, "id"); !name.empty()) names += (names.empty() ? "" : ", ") + name;
    return names.empty() ? "" : "; it offers " + detail::excerpt(names);
  }

  chat_link link_;
  generation_request const& request_;
  clock_time deadline_, not_before_{};
  std::size_t max_tokens_;
  random_stream random_;
  std::vector<std::string> image_urls_{};
  chat_mode mode_{};
  refused_reply refused_{};
  std::string last_problem_{};
  std::size_t requests_ = 0, failed_ = 0, adaptations_ = 0;
  std::uint64_t prompt_tokens_ = 0, completion_tokens_ = 0;
  std::chrono::milliseconds elapsed_{0};
};

}  // namespace dvla::inline DVLA_ABI
