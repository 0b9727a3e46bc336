// The cases without a network: Beta distribution, episode sampler, schedules, resizing.
#include <array>

#include <dvla/data/resize.hpp>
#include <dvla/fewshot/episode_sampler.hpp>
#include <dvla/nn/schedule.hpp>
#include <dvla/rl/beta.hpp>

#include "cases.hpp"

namespace parity {

template <class T>
void beta(report& found, golden_file const& golden) {
  auto const& stored = golden.find("alpha", 1);
  auto const shape = stored.shape;
  auto const alpha = dvla::read_as<double>(stored), second = golden.values("beta", shape), x = golden.values("x", shape);
  auto const compare = [&](char const* name, double bound, auto const& f) {
    std::vector<double> computed(alpha.size());
    for (std::size_t i = 0; i < alpha.size(); ++i)
      computed[i] = static_cast<double>(f(dvla::beta_distribution<T>{static_cast<T>(alpha[i]), static_cast<T>(second[i])}, static_cast<T>(x[i])));
    found.add(name, name, relative_error(computed, golden.values(name, shape)), bound);
  };
  auto const& b = bounds_of<T>;
  compare("log_prob", b.output, [](auto d, T at) { return d.log_density(at); });
  compare("entropy", b.output, [](auto d, T) { return d.entropy(); });
  compare("dlogp_dalpha", b.gradient, [](auto d, T at) { return d.d_log_density(at).alpha; });
  compare("dlogp_dbeta", b.gradient, [](auto d, T at) { return d.d_log_density(at).beta; });
  compare("dentropy_dalpha", b.gradient, [](auto d, T) { return d.d_entropy().alpha; });
  compare("dentropy_dbeta", b.gradient, [](auto d, T) { return d.d_entropy().beta; });
  auto const arguments = dvla::read_as<double>(golden.find("arg", 1));
  auto const function = [&](char const* name, auto const& f) {
    std::vector<double> computed;
    for (double const a : arguments) computed.push_back(static_cast<double>(f(static_cast<T>(a))));
    found.add(name, name, relative_error(computed, golden.values(name, {arguments.size()})), b.output);
  };
  function("lgamma", [](T a) { return dvla::lgamma(a); });
  function("digamma", [](T a) { return dvla::digamma(a); });
  function("trigamma", [](T a) { return dvla::trigamma(a); });
}

template void beta<float>(report&, golden_file const&);
template void beta<double>(report&, golden_file const&);

void sampler(report& found, golden_file const& golden) {
  auto const& stored = golden.find("episodes", 3);
  auto const reference = dvla::read_as<std::int64_t>(stored);
  // "first 10 test episodes: MT19937 seeded with 0; 20 classes of 600 images, ..."
  auto const seed = static_cast<std::uint32_t>(golden.whole("seeded with", golden.after("case", "seeded with")[0], 0, 4294967295.0));
  std::size_t const images = golden.before("case", "images", 1e6);
  std::vector<std::size_t> const sizes(golden.before("case", "classes", 1e5), images);
  std::size_t const way = stored.shape[1], draws = stored.shape[2] - 1;
  golden.require(stored.shape[2] > 2, "tensor 'episodes' is ", dvla::shape_text(stored.shape),
                 "; its rows must hold a class and at least two images");
  auto const episodes = dvla::fixed_episodes(sizes, {way, 1, draws - 1}, stored.shape[0], seed);
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
  auto const& times = golden.find("t", 1);
  auto const t = dvla::read_as<double>(times);
  // "5 warm-up epochs from 1e-6 to 5e-4; lr800 has k_decay 0.1 as the published recipe, cosine800 k_decay 1"
  double const warmup = static_cast<double>(golden.before("case", "warm-up", 1e6));
  double const first = golden.after("case", "from")[0], base = golden.after("case", "to")[0];
  std::size_t const rates = golden.times_said("case", "k_decay");
  golden.require(golden.tensors().size() == rates + 1, "its case tells of ", rates, " schedules, but it holds ", golden.tensors().size(),
                 " tensors; it must hold t and a tensor a schedule");
  for (auto const& stored : golden.tensors()) {
    if (stored.name == "t") continue;
    double const k_decay = golden.after("case", "k_decay", 1, stored.name)[0];
    dvla::cosine_schedule const rate{.total = t.back(), .warmup = warmup, .base_rate = base, .warmup_rate = first, .k_decay = k_decay};
    std::vector<double> computed;
    for (double const at : t) computed.push_back(rate(at));
    found.add(stored.name, stored.name, relative_error(computed, golden.values(stored.name, times.shape)), bounds_of<double>.output);
  }
}

/// How an image is resized, as a golden file says it: "h375 w500 -> 256x256 bilinear".
struct resize_rule {
  std::array<std::size_t, 4> sides{};  // height and width before and after
  dvla::interpolation kernel{};
};

resize_rule resize_rule_of(golden_file const& golden, std::string const& name) {
  std::string const text = golden.text(name);
  std::string_view rest = text;
  resize_rule rule;
  for (auto& side : rule.sides) {
    rest.remove_prefix(std::min(rest.find_first_of("0123456789"), rest.size()));
    auto const number = take_number(rest);
    golden.require(number.has_value(), "\"", name, "\" is \"", text, "\"; give height and width before and after");
    side = golden.whole(name, *number, 1, 16384);
  }
  bool const cubic = rest.find("bicubic") != std::string_view::npos;
  golden.require(cubic || rest.find("bilinear") != std::string_view::npos, "\"", name, "\" is \"", text,
               "\"; end it with bilinear or bicubic");
  rule.kernel = cubic ? dvla::interpolation::bicubic : dvla::interpolation::bilinear;
  return rule;
}

void resizing(report& found, golden_file const& golden) {
  for (auto const& [name, text] : golden.metadata()) {
    if (text.find("->") == std::string::npos || name == "case") continue;
    auto const [sides, kernel] = resize_rule_of(golden, name);
    auto const reference = dvla::read_as<std::uint8_t>(golden.find(name, {sides[2], sides[3], 3}));
    dvla::image source(sides[0], sides[1]);
    auto const sequence = golden.sequence("image." + name);
    for (std::size_t i = 0; i < source.pixels.size(); ++i) source.pixels[i] = static_cast<std::uint8_t>(256 * sequence.u(i));
    auto const resized = dvla::resize(source, sides[2], sides[3], kernel);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < reference.size(); ++i) wrong += reference[i] != resized.pixels[i];
    found.add("pixels (different)", name, static_cast<double>(wrong), 0);
  }
}

}  // namespace parity
