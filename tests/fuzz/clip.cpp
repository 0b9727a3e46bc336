// CLIP's tokenizer with both cleanings: texts by a list of merges, and texts by lists that are made up.
#include <dvla/semantics/tokenizer/clip_tokenizer.hpp>

#include "given_lines.hpp"

void dvla_fuzz::try_input(std::string_view bytes) {
  using dvla::clip_cleaning;
  using dvla::clip_tokenizer;
  static auto const merges = tokenizer_cases().lines("clip.small.merges");
  static clip_tokenizer const tokenizers[] = {clip_tokenizer(merges), clip_tokenizer(merges, {clip_cleaning::openai, true}),
                                              clip_tokenizer(merges, {clip_cleaning::hugging_face, true})};
  given_lines const given(bytes);
  if (given.present) return try_text(clip_tokenizer(given.lines), given.text);
  for (auto const& tokenizer : tokenizers) try_text(tokenizer, given.text);
}

std::vector<std::string> dvla_fuzz::seeds() {
  return tokenizer_seeds("a b\nab ab</w>\nc </w>\nab c</w>", "abab &amp;amp;lt; abc <|endoftext|>");
}
