// The only file of the tool that compiles the client of language models.
#include "language_model.hpp"

#include <dvla/semantics/bounded_json.hpp>
#include <dvla/semantics/generator/cached_generator.hpp>
#include <dvla/semantics/generator/dry_run.hpp>
#include <dvla/semantics/generator/recorded_generator.hpp>
#if defined(DVLA_TOOL_SEMANTICS)
#include <dvla/semantics/generator/chat_generator.hpp>
#endif

namespace cli {
namespace {

dvla::chat_options chat_of(generate_options const& o) {
  dvla::expect(!o.model.empty(), "--model is missing; give the model's name as the server knows it, or --recorded FILE");
  dvla::expect(o.seed < 0x80000000u, "--seed ", o.seed, " is too large for some servers; give one below 2147483648");
  dvla::chat_options c;
  c.provider = o.provider;
  c.base_url = o.base_url;
  c.model = o.model;
  c.key_variable = o.key_variable;
  c.ca_file = o.ca_file;
  c.seed = static_cast<std::uint32_t>(o.seed);
  c.max_tokens = o.max_tokens;
  c.parallel = o.concurrency;
  c.limits = {o.max_requests, o.max_total_tokens};
  if (!o.extra_body.empty()) c.extra_body = dvla::parse_bounded("--extra-body", o.extra_body);
  return c;
}

/// The identity of a model that nobody is to ask.
class silent_generator {
 public:
  explicit silent_generator(dvla::chat_options options) : options_(std::move(options)) { dvla::check(options_); }
  [[nodiscard]] std::string identity() const { return dvla::chat_identity(options_); }
  [[nodiscard]] std::vector<dvla::generation_result> generate(std::span<dvla::generation_request const> requests,
                                                              dvla::generation_progress const&) {
    dvla::fail("class '", requests.front().folder, "' has no kept answer, and nobody is to be asked");
  }

 private:
  dvla::chat_options options_;
};

void expect_refresh(generate_options const& o) {
  if (!o.refresh) return;
  dvla::expect(o.recorded.empty(), "--refresh asks a model for kept answers anew, and --recorded asks none; leave out one of them");
  dvla::expect(!o.cache.empty(), "--refresh replaces what is kept in --cache; give --cache FOLDER, or leave it out");
  dvla::expect(!o.offline, "--refresh asks for every answer, and --offline for none; leave out one of them");
}

template <class Source>
dvla::any_generator cached(Source source, generate_options const& o) {
  if (o.cache.empty()) return source;
  return dvla::cached_generator<Source>(std::move(source), {o.cache, o.offline, o.refresh});
}

}  // namespace

dvla::any_generator open_generator(generate_options const& o) {
  expect_refresh(o);
  if (!o.recorded.empty()) return dvla::recorded_generator(o.recorded);
  dvla::expect(!o.offline || !o.cache.empty(), "--offline answers from --cache alone; give --cache FOLDER, or --recorded FILE");
  if (o.offline) return cached(silent_generator(chat_of(o)), o);
#if defined(DVLA_TOOL_SEMANTICS)
  return cached(dvla::chat_generator(chat_of(o)), o);
#else
  dvla::fail(
      "this build of dvla has no client of language models; build it where libcurl is (libcurl4-openssl-dev), or give --recorded "
      "FILE");
#endif
}

nlohmann::json plan_of(generate_options const& o, std::span<dvla::generation_request const> requests) {
  expect_refresh(o);
  dvla::expect(o.recorded.empty(), "--dry-run tells what a model would be asked, and --recorded asks none; leave out one of them");
  if (o.cache.empty() || o.refresh) return dvla::dry_run(chat_of(o), requests);
  dvla::cached_generator<silent_generator> kept(silent_generator(chat_of(o)), {o.cache, true, false});
  std::vector<dvla::generation_request> missing;
  for (std::size_t const i : kept.missing(requests)) missing.push_back(requests[i]);
  auto plan = dvla::dry_run(chat_of(o), missing);
  plan["kept_answers"] = requests.size() - missing.size();
  return plan;
}

}  // namespace cli
