// From texts to sequences of ids and from sequences to rows: what the encoders with a transformer share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/core/parallel.hpp>
#include <dvla/models/text_transformer.hpp>

namespace dvla::inline DVLA_ABI {

/// What becomes of a text with more tokens than a model takes: it is cut; or its sentences (each cut), or consecutive pieces of it,
/// are encoded and the mean of their unit vectors is taken.
enum class long_text { truncate, sentence_mean, chunk_mean };

[[nodiscard]] inline std::string_view to_string(long_text how) {
  return how == long_text::truncate ? "truncate" : how == long_text::sentence_mean ? "sentence-mean" : "chunk-mean";
}

/// The reverse of to_string; throws for another word.
[[nodiscard]] inline long_text parse_long_text(std::string_view word) {
  for (auto const how : {long_text::truncate, long_text::sentence_mean, long_text::chunk_mean})
    if (word == to_string(how)) return how;
  fail("long texts: '", word, "' is no way to treat them; give truncate, sentence-mean or chunk-mean");
}

using token_sequence = std::vector<std::uint32_t>;

namespace detail {

/// Parts that end behind . ! ? ; before white space, or at the end of a line; none is blank.
[[nodiscard]] inline std::vector<std::string_view> sentences_of(std::string_view text) {
  constexpr std::string_view blank = " \t\r\n\v\f";
  std::vector<std::string_view> out;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    bool const stop = std::string_view(".!?;").find(text[i]) != std::string_view::npos &&
                      (i + 1 == text.size() || blank.find(text[i + 1]) != std::string_view::npos);
    if (!stop && text[i] != '\n' && i + 1 != text.size()) continue;
    auto const part = text.substr(begin, i + 1 - begin);
    begin = i + 1;
    if (part.find_first_not_of(blank) != std::string_view::npos) out.push_back(part);
  }
  return out;
}

/// The framed ids of a text as a model of `limit` positions takes them: one sequence, or several whose rows are averaged.
template <class Tokenizer>
[[nodiscard]] std::vector<token_sequence> sequences_of(Tokenizer const& tokenizer, std::string_view text, std::size_t limit,
                                                       long_text how) {
  std::size_t const room = limit - 2;
  auto const framed = [&](token_sequence const& ids, std::size_t first) {
    token_sequence out{tokenizer.begin_id()};
    std::size_t const count = std::min(room, ids.size() - first);
    auto const begin = ids.begin() + static_cast<std::ptrdiff_t>(first);
    out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
    out.push_back(tokenizer.end_id());
    return out;
  };
  token_sequence const all = tokenizer.ids(text);
  std::vector<token_sequence> out;
  if (all.size() > room && how == long_text::sentence_mean) {
    for (auto const sentence : sentences_of(text)) {
      auto const ids = tokenizer.ids(sentence);
      if (!ids.empty()) out.push_back(framed(ids, 0));
    }
  } else if (all.size() > room && how == long_text::chunk_mean) {
    for (std::size_t first = 0; first < all.size(); first += room) out.push_back(framed(all, first));
  }
  if (out.empty()) out.push_back(framed(all, 0));
  return out;
}

/// How many sequences of one length are encoded together. A product of 4096 or more terms may be summed in parts that depend on its
/// number of rows: then they go one by one, for a row must not depend on its neighbours.
[[nodiscard]] constexpr std::size_t rows_together(text_transformer_config const& c) { return c.width < 4096 && c.hidden < 4096 ? 32 : 1; }

inline void scale_to_unit(std::span<float> row) {
  double squares = 0;
  for (float const x : row) squares += static_cast<double>(x) * static_cast<double>(x);
  double const scale = 1 / std::max(std::sqrt(squares), 1e-12);
  for (float& x : row) x = static_cast<float>(static_cast<double>(x) * scale);
}

/// The unit rows of sequences. Those of one length go together, `together` at most a call of run(ids, length, out), where ids holds
/// them one after the other and out takes a row of `width` for each: nothing is padded, and a row does not depend on its neighbours.
/// Calls run on the executor's threads, one at a time on each.
template <class Run>
[[nodiscard]] std::vector<float> rows_of(std::span<token_sequence const* const> sequences, std::size_t width, std::size_t together,
                                         executor* pool, Run const& run) {
  std::map<std::size_t, std::vector<std::size_t>> by_length;
  for (std::size_t i = 0; i < sequences.size(); ++i) by_length[sequences[i]->size()].push_back(i);
  struct job {
    std::size_t length;
    std::span<std::size_t const> members;
  };
  std::vector<job> jobs;
  for (auto const& [length, members] : by_length)
    for (std::size_t i = 0; i < members.size(); i += together)
      jobs.push_back({length, std::span(members).subspan(i, std::min(together, members.size() - i))});
  std::vector<float> rows(sequences.size() * width);
  auto const one = [&](std::size_t j) {
    auto const& [length, members] = jobs[jobs.size() - 1 - j];  // the longest first: a long last one would keep a thread alone
    token_sequence ids;
    for (std::size_t const m : members) ids.insert(ids.end(), sequences[m]->begin(), sequences[m]->end());
    std::vector<float> out(members.size() * width);
    run(std::span<std::uint32_t const>(ids), length, std::span<float>(out));
    for (std::size_t i = 0; i < members.size(); ++i) {
      std::span<float> const row(rows.data() + members[i] * width, width);
      std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(i * width), width, row.begin());
      scale_to_unit(row);
    }
  };
  run_tasks(pool, jobs.size(), task_ref(one));
  return rows;
}

/// The unit rows of texts: each text's sequences encoded, several of one text averaged.
template <class Tokenizer, class Run>
[[nodiscard]] std::vector<float> encode_texts(Tokenizer const& tokenizer, std::span<std::string const> texts, std::size_t limit,
                                              long_text how, std::size_t width, std::size_t together, executor* pool, Run const& run) {
  std::vector<std::vector<token_sequence>> parts(texts.size());
  auto const tokenize = [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) parts[i] = sequences_of(tokenizer, texts[i], limit, how);
  };
  parallel_for(pool, texts.size(), 64, tokenize);
  std::vector<token_sequence const*> sequences;
  for (auto const& text : parts)
    for (auto const& sequence : text) sequences.push_back(&sequence);
  auto rows = rows_of(std::span<token_sequence const* const>(sequences), width, together, pool, run);
  if (sequences.size() == texts.size()) return rows;
  std::vector<float> out(texts.size() * width);
  std::size_t next = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    std::span<float> const row(out.data() + i * width, width);
    std::vector<double> sum(width);
    for (std::size_t p = 0; p < parts[i].size(); ++p, ++next)
      for (std::size_t k = 0; k < width; ++k) sum[k] += static_cast<double>(rows[next * width + k]);
    for (std::size_t k = 0; k < width; ++k) row[k] = static_cast<float>(sum[k] / static_cast<double>(parts[i].size()));
    if (parts[i].size() > 1) scale_to_unit(row);
  }
  return out;
}

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
