// The cases without a network: Beta distribution, episode sampler, schedules, resizing.
#include <dvla/data/resize.hpp>
#include <dvla/fewshot/episode_sampler.hpp>
#include <dvla/nn/schedule.hpp>
#include <dvla/rl/beta.hpp>

#include "cases.hpp"

namespace parity {

template <class T>
void beta(report& found, golden_file const& golden) {
  auto const alpha = golden.values("alpha"), second = golden.values("beta"), x = golden.values("x");
  auto const compare = [&](char const* name, double bound, auto const& f) {
    std::vector<double> computed(alpha.size());
    for (std::size_t i = 0; i < alpha.size(); ++i)
      computed[i] = static_cast<double>(f(dvla::beta_distribution<T>{static_cast<T>(alpha[i]), static_cast<T>(second[i])}, static_cast<T>(x[i])));
    found.add(name, name, relative_error(computed, golden.values(name)), bound);
  };
  auto const& b = bounds_of<T>;
  compare("log_prob", b.output, [](auto d, T at) { return d.log_density(at); });
  compare("entropy", b.output, [](auto d, T) { return d.entropy(); });
  compare("dlogp_dalpha", b.gradient, [](auto d, T at) { return d.d_log_density(at).alpha; });
  compare("dlogp_dbeta", b.gradient, [](auto d, T at) { return d.d_log_density(at).beta; });
  compare("dentropy_dalpha", b.gradient, [](auto d, T) { return d.d_entropy().alpha; });
  compare("dentropy_dbeta", b.gradient, [](auto d, T) { return d.d_entropy().beta; });
  auto const arguments = golden.values("arg");
  auto const function = [&](char const* name, auto const& f) {
    std::vector<double> computed;
    for (double const a : arguments) computed.push_back(static_cast<double>(f(static_cast<T>(a))));
    found.add(name, name, relative_error(computed, golden.values(name)), b.output);
  };
  function("lgamma", [](T a) { return dvla::lgamma(a); });
  function("digamma", [](T a) { return dvla::digamma(a); });
  function("trigamma", [](T a) { return dvla::trigamma(a); });
}

template void beta<float>(report&, golden_file const&);
template void beta<double>(report&, golden_file const&);

void sampler(report& found, golden_file const& golden) {
  auto const& stored = golden.find("episodes");
  auto const reference = dvla::read_as<std::int64_t>(stored);
  // "first 10 test episodes: ... 20 classes of 600 images, 5-way, 16 images a class ..."
  std::string const text = golden.text("case");
  auto const before = [&](std::string const& word) {
    auto const at = text.find(word);
    dvla::expect(at != std::string::npos, "episode sampler: the case does not say how many ", word);
    auto const end = text.find_last_of("0123456789", at);
    auto const start = text.find_last_not_of("0123456789", end);
    return std::stoul(text.substr(start + 1, end - start));
  };
  std::size_t const images = before(" images");
  std::vector<std::size_t> const sizes(before(" classes"), images);
  std::size_t const way = stored.shape[1], draws = stored.shape[2] - 1;
  auto const episodes = dvla::fixed_episodes(sizes, {way, 1, draws - 1}, stored.shape[0], 0);
  std::size_t wrong = 0, i = 0;
  for (auto const& e : episodes)
    for (std::size_t c = 0; c < way; ++c) {
      auto const expect_equal = [&](std::size_t value) { wrong += static_cast<std::int64_t>(value) != reference[i++]; };
      expect_equal(e.classes[c]);
      expect_equal(e.support[c] - e.classes[c] * images);
      for (std::size_t q = 0; q + 1 < draws; ++q) expect_equal(e.query[c * (draws - 1) + q] - e.classes[c] * images);
    }
  found.add("episodes (different)", "episodes", static_cast<double>(wrong), 0);
}

void schedule(report& found, golden_file const& golden) {
  auto const t = golden.values("t");
  auto const compare = [&](char const* name, double k_decay) {
    dvla::cosine_schedule const rate{.total = t.back(), .k_decay = k_decay};
    std::vector<double> computed;
    for (double const at : t) computed.push_back(rate(at));
    found.add(name, name, relative_error(computed, golden.values(name)), bounds_of<double>.output);
  };
  compare("lr800", 0.1);
  compare("cosine800", 1);
}

void resizing(report& found, golden_file const& golden) {
  for (auto const& stored : golden.tensors().tensors()) {
    // "84x84 -> 256x256 bilinear" or "h375 w500 -> 256x256 bilinear"
    std::string rule = golden.text(stored.name);
    auto const take = [&] {
      auto const start = rule.find_first_of("0123456789");
      std::size_t used = 0;
      auto const n = std::stoul(rule.substr(start), &used);
      rule.erase(0, start + used);
      return n;
    };
    std::size_t const height = take(), width = take();
    auto const kernel = rule.find("bicubic") != std::string::npos ? dvla::interpolation::bicubic : dvla::interpolation::bilinear;
    dvla::image source(height, width);
    auto const sequence = golden.sequence("image." + stored.name);
    for (std::size_t i = 0; i < source.pixels.size(); ++i) source.pixels[i] = static_cast<std::uint8_t>(256 * sequence.u(i));
    auto const resized = dvla::resize(source, stored.shape[0], stored.shape[1], kernel);
    auto const reference = dvla::read_as<std::uint8_t>(stored);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < reference.size(); ++i) wrong += reference[i] != resized.pixels[i];
    found.add("pixels (different)", stored.name, static_cast<double>(wrong), 0);
  }
}

}  // namespace parity
