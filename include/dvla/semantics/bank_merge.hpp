// Banks put together, and banks at unit length or centred.
#pragma once

#include <map>
#include <tuple>

#include <dvla/semantics/bank.hpp>

namespace dvla::inline DVLA_ABI {

/// Which of two banks' vectors of the same class, role and level is kept; refuse throws.
enum class merge_clash { refuse, first, last };

namespace detail {

/// What makes a block the same in two banks.
[[nodiscard]] inline auto block_key(bank_block const& b) { return std::tuple(b.folder, b.support, b.role, b.level); }

[[nodiscard]] inline std::string encoder_of(semantic_bank const& bank) {
  return bank.encoder.empty() ? "an encoder that is not known" : concat("encoder '", bank.encoder, "'");
}

/// Rows minus their mean, where asked, and then at unit length, where asked. A zero row stays zero.
inline void normalise_rows(std::span<float> rows, std::span<double const> mean, bool unit) {
  std::size_t const width = mean.size();
  for (std::size_t begin = 0; begin + width <= rows.size(); begin += width) {
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) {
      double const x = static_cast<double>(rows[begin + i]) - mean[i];
      rows[begin + i] = static_cast<float>(x);
      squares += x * x;
    }
    if (unit && squares > 0)
      for (std::size_t i = 0; i < width; ++i)
        rows[begin + i] = static_cast<float>(static_cast<double>(rows[begin + i]) / std::sqrt(squares));
  }
}

}  // namespace detail

/// All classes and blocks of the banks, in order. Throws for banks of different widths or encoders, and where two have the same
/// vectors' place and `clash` refuses; all such classes are named.
[[nodiscard]] inline semantic_bank merge_banks(std::span<semantic_bank const> banks, merge_clash clash = merge_clash::refuse) {
  expect(!banks.empty(), "merge: no banks were given");
  semantic_bank out;
  out.encoder = banks[0].encoder;
  out.width = banks[0].width;
  out.about = {{"merged", nlohmann::json::array()}};
  std::map<decltype(detail::block_key(bank_block{})), std::size_t> places;
  std::map<std::string, std::size_t> classes;
  std::vector<std::string> twice;
  for (auto const& bank : banks) {
    expect(bank.width == out.width, "merge: ", bank.source, " has vectors of width ", bank.width, ", ", banks[0].source, " of ",
           out.width, "; encode both with one encoder");
    expect(bank.encoder == out.encoder, "merge: ", bank.source, " was made with ", detail::encoder_of(bank), ", ", banks[0].source,
           " with ", detail::encoder_of(out), "; their vectors cannot be compared, encode both with one encoder");
    out.source += (out.source.empty() ? "" : " + ") + bank.source;
    out.about["merged"].push_back({{"file", bank.source}, {"sha256", bank.hash}, {"about", bank.about}});
    for (auto const& c : bank.classes) {
      auto const [at, added] = classes.emplace(c.folder, out.classes.size());
      if (added)
        out.classes.push_back(c);
      else if (clash == merge_clash::last)
        out.classes[at->second] = c;
    }
    for (auto const& b : bank.blocks) {
      auto const [at, added] = places.emplace(detail::block_key(b), out.blocks.size());
      if (added)
        out.blocks.push_back(b);
      else if (clash == merge_clash::last)
        out.blocks[at->second] = b;
      else if (clash == merge_clash::refuse && (twice.empty() || twice.back() != b.folder))
        twice.push_back(b.folder);
    }
  }
  expect(twice.empty(), "merge: ", twice.size(), twice.size() == 1 ? " class has" : " classes have",
         " vectors in more than one bank: ", detail::list_of(twice), "; say whether the first or the last bank's are kept");
  return out;
}

/// Centres (the mean over all classes' rows of a role and level is subtracted) and scales to unit length, as asked. What was done
/// is kept in `about`. Throws for NaN and infinity, which a mean would carry into every class.
inline void normalise(semantic_bank& bank, bool centre, bool unit) {
  std::map<std::pair<bank_role, bank_level>, std::pair<std::vector<double>, std::size_t>> sums;
  for (auto const& b : bank.blocks) {
    expect(std::all_of(b.rows.begin(), b.rows.end(), [](float x) { return std::isfinite(x); }), bank.source, ": class '", b.folder,
           "' has a vector with NaN or infinite elements; encode it again or leave it out");
    auto& [sum, rows] = sums[{b.role, b.level}];
    sum.resize(bank.width);
    if (!centre || !b.support.empty()) continue;
    for (std::size_t i = 0; i < b.rows.size(); ++i) sum[i % bank.width] += static_cast<double>(b.rows[i]);
    rows += b.phrases.size();
  }
  for (auto& [key, entry] : sums)
    for (double& x : entry.first) x /= static_cast<double>(std::max<std::size_t>(entry.second, 1));
  for (auto& b : bank.blocks) detail::normalise_rows(b.rows, sums[{b.role, b.level}].first, unit);
  if (centre) bank.about["centred"] = true;
  if (unit) bank.about["unit"] = true;
}

}  // namespace dvla::inline DVLA_ABI
