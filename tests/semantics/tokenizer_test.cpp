// The tokenizers against the reference ones on a thousand awkward texts, on bytes that are no text, and on long ones.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>

#include <dvla/core/philox.hpp>
#include <dvla/semantics/tokenizer/clip_tokenizer.hpp>
#include <dvla/semantics/tokenizer/wordpiece_tokenizer.hpp>

#include "semantics/tokenizer_cases.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::clip_cleaning;
using dvla::clip_tokenizer;
using dvla::wordpiece_tokenizer;
using ids = std::vector<std::uint32_t>;

constexpr dvla::clip_tokenizer_options hugging_face{clip_cleaning::hugging_face};

auto const tell = [](std::string const& text, ids const& got, ids const& expected) {
  CAPTURE(text);
  CHECK(got == expected);
};

/// The lines of a file that a variable of the environment names; none, with a message, where it is not set.
std::vector<std::string> lines_of(char const* variable, std::string const& behind, std::string const& what) {
  char const* const value = std::getenv(variable);
  if (value == nullptr) {
    MESSAGE("skipped: set " << std::string(variable) << " to " << what);
    return {};
  }
  std::ifstream file(value + behind);
  REQUIRE(file.good());
  std::vector<std::string> out;
  for (std::string line; std::getline(file, line);) out.push_back(line);
  return out;
}

std::vector<std::string> published_merges() {
  auto lines = lines_of("DVLA_CLIP_MERGES", "", "merges.txt or bpe_simple_vocab_16e6.txt to test the whole vocabulary");
  if (!lines.empty()) lines.erase(lines.begin());
  return lines;
}

/// A small WordPiece vocabulary and CLIP's first 2,000 merges.
wordpiece_tokenizer small_wordpiece() { return wordpiece_tokenizer(tokenizer_cases().lines("wordpiece.small.vocabulary")); }
clip_tokenizer small_clip(dvla::clip_tokenizer_options options = {}) {
  return clip_tokenizer(tokenizer_cases().lines("clip.small.merges"), options);
}

std::string random_bytes(std::uint64_t seed, std::size_t count) {
  dvla::random_stream random(seed, dvla::draw::test, 0, 0);
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += static_cast<char>(static_cast<unsigned char>(random.uniform(0, 256)));
  return out;
}

double seconds_of(auto const& work) {
  auto const start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("WordPiece gives the ids of BertTokenizerFast on a thousand awkward texts") {
  tokenizer_cases const cases;
  REQUIRE(cases.texts().size() == 1000);
  CHECK(differing(small_wordpiece(), cases, "wordpiece.small", tell) == 0);
  auto const vocabulary = lines_of("DVLA_MINILM", "/vocab.txt", "the folder of scripts/fetch_minilm.sh to test the whole vocabulary");
  if (!vocabulary.empty()) CHECK(differing(wordpiece_tokenizer(vocabulary), cases, "wordpiece.full", tell) == 0);
}

TEST_CASE("CLIP's tokenizer gives the ids of OpenAI's and of Hugging Face's on a thousand awkward texts") {
  tokenizer_cases const cases;
  CHECK(differing(small_clip(), cases, "clip.small.openai", tell) == 0);
  CHECK(differing(small_clip(hugging_face), cases, "clip.small.hugging_face", tell) == 0);
  auto const merges = published_merges();
  if (merges.empty()) return;
  CHECK(clip_tokenizer(merges).size() == 49408);
  CHECK(differing(clip_tokenizer(merges), cases, "clip.full.openai", tell) == 0);
  CHECK(differing(clip_tokenizer(merges, hugging_face), cases, "clip.full.hugging_face", tell) == 0);
}

TEST_CASE("CLIP's published ids are met") {
  auto const merges = published_merges();
  if (merges.empty()) return;
  clip_tokenizer const openai(merges);
  CHECK(openai.ids("a photo of a cat") == ids{320, 1125, 539, 320, 2368});
  CHECK(openai.ids("it's 2024, café naïve") == ids{585, 568, 273, 271, 273, 275, 267, 15304, 1097, 35689, 563});
  CHECK(openai.ids("日本語 テスト") == ids{39121, 44353, 34002, 508, 2429, 228, 32421, 486});
  CHECK(openai.begin_id() == 49406);
  CHECK(openai.end_id() == 49407);
}

TEST_CASE("Marks in a text are plain characters unless they are allowed") {
  auto const vocabulary = tokenizer_cases().lines("wordpiece.small.vocabulary");
  wordpiece_tokenizer const plain(vocabulary), marked(vocabulary, {.allow_special = true});
  auto const expected = marked.ids("a");
  CHECK(plain.ids("[SEP]").size() > 1);
  CHECK(marked.ids("[SEP]") == ids{marked.end_id()});
  CHECK(marked.ids("a[CLS]a") == ids{expected[0], marked.begin_id(), expected[0]});
  auto const clip = small_clip({.allow_special = true});
  CHECK(clip.ids("<|endoftext|>") == ids{clip.end_id()});
  CHECK(small_clip().ids("<|endoftext|>").size() > 1);
}

TEST_CASE("Any bytes are taken, and broken UTF-8 becomes replacement characters as in Python") {
  auto const wordpiece = small_wordpiece();
  auto const openai = small_clip(), hugging = small_clip(hugging_face);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::string const bytes = random_bytes(seed, 1 + seed * 3 % 97);
    for (auto const id : wordpiece.ids(bytes)) CHECK(id < wordpiece.size());
    for (auto const id : openai.ids(bytes)) CHECK(id < openai.size());
    for (auto const id : hugging.ids(bytes)) CHECK(id < hugging.size());
  }
  CHECK(dvla::unicode::decode("\xff") == U"\uFFFD");
  CHECK(dvla::unicode::decode("a\xe2\x82z") == U"a\uFFFDz");
  CHECK(dvla::unicode::decode("\xed\xa0\x80") == U"\uFFFD\uFFFD\uFFFD");
  CHECK(dvla::unicode::decode("\xf0\x9f\x98") == U"\uFFFD");
  CHECK(dvla::unicode::decode("\xf4\x90\x80\x80") == U"\uFFFD\uFFFD\uFFFD\uFFFD");
  CHECK(dvla::unicode::decode("\xc0\xaf") == U"\uFFFD\uFFFD");
  CHECK(wordpiece.ids("a\xff") == wordpiece.ids("a"));
  CHECK(openai.ids("\xff") == openai.ids("\xef\xbf\xbd"));
}

TEST_CASE("Composition follows canonical equivalence") {
  using dvla::unicode::composed;
  using dvla::unicode::decomposed;
  CHECK(composed(U"e\u0301") == U"\u00E9");
  CHECK(composed(U"q\u0307\u0323") == U"q\u0323\u0307");
  CHECK(composed(U"\u1100\u1161\u11A8") == U"\uAC01");
  CHECK(composed(U"\u212B") == U"\u00C5");
  CHECK(composed(U"\u0958") == U"\u0915\u093C");  // excluded from composition
  CHECK(decomposed(U"\u1E9B\u0323") == U"\u017F\u0323\u0307");
  CHECK(decomposed(U"\uAC01") == U"\u1100\u1161\u11A8");
}

TEST_CASE("Long texts take time in proportion to their length") {
  auto const wordpiece = small_wordpiece();
  auto const openai = small_clip(), hugging = small_clip(hugging_face);
  std::size_t const length = 200'000;
  std::string amps, sigmas, marks = "a";
  while (amps.size() < length) amps += "&amp;";
  while (sigmas.size() < length) sigmas += "\u03A3'";
  while (marks.size() < length) marks += marks.size() % 4 == 1 ? "\u0301" : "\u0323";
  std::string nested = "&";
  while (nested.size() < length) nested += "amp;";
  std::string const texts[] = {std::string(length, 'a'), std::string(length, '&'), std::string(length, '!'), std::string(length, '\n'),
                               amps, nested, sigmas, marks, random_bytes(1, length)};
  for (auto const& text : texts)
    CHECK(seconds_of([&] { (void)(wordpiece.ids(text).size() + openai.ids(text).size() + hugging.ids(text).size()); }) < 20);
}

TEST_CASE("A vocabulary that is none is named") {
  std::vector<std::string> const words{"a", "b"}, merges{"a b", "zz y</w>"};
  CHECK(contains(message_of([&] { wordpiece_tokenizer{words}; }), "the vocabulary has no [UNK]"));
  CHECK(contains(message_of([&] { clip_tokenizer{merges}; }), "merge 2, 'zz y</w>', is no pair of symbols made before it"));
}
