// WordPiece: texts by a small vocabulary, with and without lower case and marks, and texts by vocabularies that are made up.
#include <dvla/semantics/tokenizer/wordpiece_tokenizer.hpp>

#include "given_lines.hpp"

void dvla_fuzz::try_input(std::string_view bytes) {
  using dvla::wordpiece_tokenizer;
  static auto const vocabulary = tokenizer_cases().lines("wordpiece.small.vocabulary");
  static wordpiece_tokenizer const tokenizers[] = {wordpiece_tokenizer(vocabulary), wordpiece_tokenizer(vocabulary, {true, true}),
                                                   wordpiece_tokenizer(vocabulary, {false, true})};
  given_lines const given(bytes);
  if (given.present) return try_text(wordpiece_tokenizer(given.lines, {true, true}), given.text);
  for (auto const& tokenizer : tokenizers) try_text(tokenizer, given.text);
}

std::vector<std::string> dvla_fuzz::seeds() {
  return tokenizer_seeds("[UNK]\n[CLS]\n[SEP]\na\n##b\nab\n##\xC3\xA9", "abab [SEP] b a\xC3\xA9");
}
