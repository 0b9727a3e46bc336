// Progressive top-k (section 2 of the method, arXiv 2602.00795): which of a class's candidate attributes are kept, and why.
#pragma once

#include <cmath>
#include <limits>
#include <optional>

#include <dvla/semantics/prompts.hpp>
#include <dvla/semantics/text_encoder.hpp>

namespace dvla::inline DVLA_ABI {

/// progressive: as the method has it; one_shot: the k nearest to the class-name template at once; none: the first k as they came.
enum class selection_mode { progressive, one_shot, none };

[[nodiscard]] constexpr char const* to_string(selection_mode mode) {
  return mode == selection_mode::progressive ? "progressive" : mode == selection_mode::one_shot ? "one-shot" : "none";
}

/// How attributes are selected. `duplicate` and `foreign` are choices of this project; the formula alone is duplicate = 2, foreign
/// = -9.
struct selection_settings {
  selection_mode mode = selection_mode::progressive;
  std::size_t k = 4;
  double duplicate = 0.9;  ///< progressive: a candidate this similar to one chosen says the same; above 1 only equal words count
  double foreign = -9;     ///< progressive: a candidate must stand this many deviations above its mean over the other classes
};

/// One step: the text it compared with, every candidate's cosine to it (NaN for those no longer there), and which was taken.
struct selection_step {
  std::string text;
  std::vector<double> scores{};
  std::size_t chosen = 0;
};

/// What was selected for a class and why. Indices are positions in `candidates`.
struct attribute_selection {
  selection_mode mode = selection_mode::progressive;
  std::string encoder{};                  ///< identity of the text encoder
  std::vector<std::string> candidates{};  ///< those that were scored
  std::vector<selection_step> steps{};
  std::vector<std::size_t> chosen{};
  std::vector<rejected_text> dropped{};  ///< all others, with their reasons

  /// The chosen attributes, in the order they were taken.
  [[nodiscard]] std::vector<std::string> attributes() const {
    std::vector<std::string> out;
    for (std::size_t const i : chosen) out.push_back(candidates[i]);
    return out;
  }

  /// The score an attribute was taken with: NaN without scores.
  [[nodiscard]] double score(std::size_t place) const {
    if (place < steps.size()) return steps[place].scores[chosen[place]];
    if (mode == selection_mode::one_shot && !steps.empty()) return steps[0].scores[chosen[place]];
    return std::numeric_limits<double>::quiet_NaN();
  }
};

namespace detail {

/// Cosine of two vectors; 0 where one of them is zero.
[[nodiscard]] inline double cosine(std::span<float const> a, std::span<float const> b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    double const x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    ab += x * y, aa += x * x, bb += y * y;
  }
  return aa > 0 && bb > 0 ? ab / (std::sqrt(aa) * std::sqrt(bb)) : 0;
}

/// Texts as rows.
struct encoded_texts {
  std::size_t width = 0;
  std::vector<float> values{};

  template <text_encoder E>
  encoded_texts(E const& encoder, std::span<std::string const> texts)
      : width(encoder.width()), values(texts.empty() ? std::vector<float>() : encoder.encode(texts)) {
    expect_rows(values, texts, width, "selection");
  }
  [[nodiscard]] std::span<float const> row(std::size_t i) const { return std::span<float const>(values).subspan(i * width, width); }
};

/// One selection in the making.
template <text_encoder E>
class selector {
 public:
  selector(std::string const& name, E const& encoder, selection_settings const& settings, std::span<float const> others)
      : name_(name), encoder_(encoder), settings_(settings), others_(others) {
    out_.mode = settings.mode;
    out_.encoder = encoder.identity();
  }

  [[nodiscard]] attribute_selection run(std::span<std::string const> candidates) {
    admit(candidates);
    if (settings_.mode == selection_mode::none)
      first();
    else {
      rows_.emplace(encoder_, std::span<std::string const>(out_.candidates));
      present_.assign(out_.candidates.size(), true);
      if (settings_.mode == selection_mode::one_shot)
        nearest();
      else
        progressive();
    }
    return std::move(out_);
  }

 private:
  void drop(std::string text, text_fault fault, std::string reason) {
    out_.dropped.push_back({std::move(text), fault, std::move(reason)});
  }

  /// Texts that are no attributes are dropped in every mode, repetitions and empty phrases by progressive selection.
  void admit(std::span<std::string const> candidates) {
    std::vector<std::vector<std::string>> seen;
    for (auto const& candidate : candidates) {
      auto text = tidy_text(candidate);
      auto found = screen_text(text, attribute_limits);
      if (found.ok() && settings_.mode == selection_mode::progressive) {
        found = screen_generic(text, name_);
        auto words = word_set(text);
        auto const same = std::find(seen.begin(), seen.end(), words);
        if (found.ok() && same != seen.end())
          found = {text_fault::duplicate,
                   concat("it has the words of '", out_.candidates[static_cast<std::size_t>(same - seen.begin())], "'")};
        if (found.ok()) seen.push_back(std::move(words));
      }
      if (found.ok())
        out_.candidates.push_back(std::move(text));
      else
        drop(dvla::excerpt(text), found.fault, std::move(found.reason));
    }
  }

  void first() {
    for (std::size_t i = 0; i < out_.candidates.size(); ++i)
      if (i < settings_.k)
        out_.chosen.push_back(i);
      else
        drop(out_.candidates[i], text_fault::not_chosen, concat("it comes after the first ", settings_.k));
  }

  [[nodiscard]] selection_step score(std::string text) const {
    selection_step step{std::move(text), {}, 0};
    encoded_texts const base(encoder_, std::span<std::string const>(&step.text, 1));
    for (std::size_t i = 0; i < present_.size(); ++i)
      step.scores.push_back(present_[i] ? cosine(base.row(0), rows_->row(i)) : std::numeric_limits<double>::quiet_NaN());
    return step;
  }

  /// The best of the candidates that are there; the first of equals.
  [[nodiscard]] std::optional<std::size_t> best(selection_step const& step) const {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < present_.size(); ++i)
      if (present_[i] && (!found || step.scores[i] > step.scores[*found])) found = i;
    return found;
  }

  void take(std::size_t i) {
    out_.chosen.push_back(i);
    present_[i] = false;
  }

  void nearest() {
    if (out_.candidates.empty()) return;
    out_.steps.push_back(score(class_template(name_)));
    while (out_.chosen.size() < settings_.k) {
      auto const i = best(out_.steps[0]);
      if (!i) break;
      if (out_.chosen.empty()) out_.steps[0].chosen = *i;
      take(*i);
    }
    drop_the_rest(0);
  }

  void progressive() {
    drop_foreign();
    std::string text = class_template(name_);
    while (out_.chosen.size() < settings_.k) {
      auto step = score(text);
      auto const i = best(step);
      if (!i) break;
      step.chosen = *i;
      text += (out_.chosen.empty() ? ", which has " : ", ") + out_.candidates[*i];
      out_.steps.push_back(std::move(step));
      take(*i);
      drop_like(*i);
    }
    if (!out_.steps.empty()) drop_the_rest(out_.steps.size() - 1);
  }

  void drop_like(std::size_t chosen) {
    for (std::size_t i = 0; i < present_.size(); ++i) {
      if (!present_[i]) continue;
      double const similarity = cosine(rows_->row(i), rows_->row(chosen));
      if (similarity < settings_.duplicate) continue;
      present_[i] = false;
      drop(out_.candidates[i], text_fault::duplicate,
           concat("it says what '", out_.candidates[chosen], "' does: cosine ", rounded(similarity)));
    }
  }

  /// Drops candidates that do not fit this class better than the others: generic ones fit all alike, hallucinated ones others
  /// better.
  void drop_foreign() {
    std::size_t const width = rows_->width, classes = width == 0 ? 0 : others_.size() / width;
    if (classes < 2 || out_.candidates.empty()) return;
    std::string const own = class_template(name_);
    encoded_texts const base(encoder_, std::span<std::string const>(&own, 1));
    for (std::size_t i = 0; i < present_.size(); ++i) {
      double sum = 0, squares = 0;
      for (std::size_t c = 0; c < classes; ++c) {
        double const x = cosine(others_.subspan(c * width, width), rows_->row(i));
        sum += x, squares += x * x;
      }
      double const mean = sum / static_cast<double>(classes), variance = squares / static_cast<double>(classes) - mean * mean;
      double const z = (cosine(base.row(0), rows_->row(i)) - mean) / std::sqrt(std::max(variance, 1e-12));
      if (z >= settings_.foreign) continue;
      present_[i] = false;
      drop(out_.candidates[i], text_fault::foreign,
           concat("it fits this class ", rounded(z), " deviations better than the others, ", rounded(settings_.foreign),
                  " are asked for"));
    }
  }

  void drop_the_rest(std::size_t step) {
    for (std::size_t i = 0; i < present_.size(); ++i)
      if (present_[i])
        drop(
            out_.candidates[i], text_fault::not_chosen,
            concat("not among the ", settings_.k, " best: ", rounded(out_.steps[step].scores[i]), " at step ", step + 1, ", where ",
                   rounded(out_.steps[step]
                               .scores[settings_.mode == selection_mode::one_shot ? out_.chosen.back() : out_.steps[step].chosen]),
                   " was taken last"));
  }

  [[nodiscard]] static double rounded(double x) { return std::round(1000 * x) / 1000; }

  std::string const& name_;
  E const& encoder_;
  selection_settings settings_;
  std::span<float const> others_;
  attribute_selection out_;
  std::optional<encoded_texts> rows_;
  std::vector<bool> present_;
};

}  // namespace detail

/// Selects k of a class's candidates. Progressive: T = "A photo of a {name}"; k times the remaining candidate with the greatest
/// cos(E(T), E(candidate)) is taken and T becomes "A photo of a {name}, which has {a}, {a'}, ...". Refusals, instructions, markup
/// and the like are dropped in every mode; repetitions and empty phrases, and with `others` (rows: E of the other classes'
/// templates) and settings.foreign also what fits them as well, by the progressive mode. All of it is told in the result. Fewer
/// candidates than k give fewer attributes.
template <text_encoder E>
[[nodiscard]] attribute_selection select_attributes(std::string const& name, std::span<std::string const> candidates,
                                                    E const& encoder, selection_settings const& settings = {},
                                                    std::span<float const> others = {}) {
  expect(settings.k > 0, "selection: 0 attributes were asked for; give at least 1");
  expect(!std::isnan(settings.duplicate) && !std::isnan(settings.foreign), "selection: a threshold that is no number cannot be");
  return detail::selector<E>(name, encoder, settings, others).run(candidates);
}

}  // namespace dvla::inline DVLA_ABI
