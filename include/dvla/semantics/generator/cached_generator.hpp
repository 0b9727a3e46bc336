// A generator around another one that keeps its answers, so that none is paid for twice and an interrupted job goes on.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/semantics/generation.hpp>
#include <dvla/semantics/generator/answer_cache.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

struct cache_options {
  std::filesystem::path folder{};
  bool offline = false;  ///< only what is kept; the first request that is not stops the job
  bool refresh = false;  ///< asks for everything anew and replaces what is kept
};

template <generator Source>
class cached_generator {
 public:
  /// Throws for options that contradict each other.
  cached_generator(Source source, cache_options options)
      : source_(std::move(source)), options_(std::move(options)), cache_(options_.folder) {
    expect(!options_.folder.empty(), "no folder is given for the cache");
    expect(!(options_.offline && options_.refresh),
           "offline and refresh exclude each other: one never asks, the other always does");
  }

  [[nodiscard]] std::string identity() { return source_.identity(); }
  [[nodiscard]] Source& source() { return source_; }

  /// Which requests would be sent.
  [[nodiscard]] std::vector<std::size_t> missing(std::span<generation_request const> requests) {
    std::vector<std::size_t> out;
    std::string const who = identity();
    for (std::size_t i = 0; i < requests.size(); ++i)
      if (options_.refresh || !cache_.find(answer_cache::key_of(who, requests[i]))) out.push_back(i);
    return out;
  }

  /// See `generator`. Each answer is kept as soon as it is there; failures are not kept. Requests with the same key are sent once.
  [[nodiscard]] std::vector<generation_result> generate(std::span<generation_request const> requests,
                                                        generation_progress const& progress = {}) {
    plan work = look_up(requests, progress);
    auto const take = [&](std::size_t sent, generation_result const& result) {
      std::vector<std::size_t> const& places = work.places[sent];
      generation_result kept = settle(work.keys[sent], result);
      for (std::size_t const i : places) {
        work.results[i] = kept;
        if (progress) progress(i, work.results[i]);
      }
    };
    if (!work.requests.empty()) {
      cache_.prepare();
      std::vector<bool> taken(work.requests.size());
      auto const answers = source_.generate(
          work.requests, [&](std::size_t i, generation_result const& result) { take(i, result), taken[i] = true; });
      for (std::size_t i = 0; i < answers.size(); ++i)  // a source may not report what it does not wait for
        if (!taken[i]) take(i, answers[i]);
    }
    return std::move(work.results);
  }

 private:
  /// What has to be sent: each request with its key and its places among all.
  struct plan {
    std::vector<generation_result> results;
    std::vector<generation_request> requests{};
    std::vector<answer_cache::entry_key> keys{};
    std::vector<std::vector<std::size_t>> places{};
  };

  plan look_up(std::span<generation_request const> requests, generation_progress const& progress) {
    plan work{std::vector<generation_result>(requests.size())};
    std::map<std::string, std::size_t> sent;
    std::string const who = identity();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      std::optional<answer_cache::entry_key> key;
      try {
        key = answer_cache::key_of(who, requests[i]);
      } catch (error const& problem) {  // an image that cannot be read is the request's failure
        work.results[i].failure = concat(detail::request_name(requests[i]), ": ", problem.what());
      }
      if (key && !options_.refresh) {
        if (auto found = cache_.find(*key)) work.results[i] = std::move(*found), key.reset();
      }
      if (!key) {
        if (progress) progress(i, work.results[i]);
        continue;
      }
      expect(!options_.offline, detail::request_name(requests[i]), ": no answer is kept in ", options_.folder.string(), " (key ",
             key->hash, "); leave out --offline to ask for it");
      auto const [place, first] = sent.emplace(key->hash, work.requests.size());
      if (first) {
        work.requests.push_back(requests[i]);
        work.keys.push_back(std::move(*key));
        work.places.emplace_back();
      }
      work.places[place->second].push_back(i);
    }
    return work;
  }

  /// Keeps an answer. Where another process was first, its answer counts, so that all see the same one.
  generation_result settle(answer_cache::entry_key const& key, generation_result result) {
    if (!result.ok()) {
      answer_cache::mark(result, key, false);
      return result;
    }
    if (!options_.refresh)
      if (auto earlier = cache_.find(key)) return *earlier;
    cache_.keep(key, identity(), result);
    return result;
  }

  Source source_;
  cache_options options_;
  answer_cache cache_;
};

}  // namespace dvla::inline DVLA_ABI
