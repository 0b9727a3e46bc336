// The reader of banks of texts: what it reads is written, and then read as the same.
#include <dvla/semantics/bank_file.hpp>
#include <dvla/semantics/class_texts.hpp>

#include "input_file.hpp"

void dvla_fuzz::try_input(std::string_view bytes) {
  static input_file const file("texts.json");
  static std::filesystem::path const copy = input_folder() / "copy.json";
  auto const& path = file(bytes);
  (void)dvla::holds_texts(path);
  auto const bank = dvla::read_texts(path);
  dvla::write_texts(copy, bank);
  auto const again = dvla::read_texts(copy);
  demand(again.generator == bank.generator && again.entries.size() == bank.entries.size(), "a bank of texts that is written is read back");
  for (std::size_t i = 0; i < bank.entries.size(); ++i) {
    auto const &a = bank.entries[i], &b = again.entries[i];
    demand(a.folder == b.folder && a.support == b.support && dvla::detail::to_json(a) == dvla::detail::to_json(b),
           "a class's texts that are written are read back");
  }
}

std::vector<std::string> dvla_fuzz::seeds() {
  return {R"({"generator": {"model": "m"}, "classes": {"a_b": {"attributes": ["red", "round"], "description": "It is red.",
    "per_image": {"b/1.png": {"attributes": ["green"], "provenance": {"key": "k"}}}}, "c": {"name": "C", "failure": "no answer"}}})",
          R"({"classes": {"a": {"attributes": ["x", "y"], "supports": ["1.png"], "description_note": "cut",
    "intrinsic": {"local": ["x"], "global": "It."}, "nuisance": {"local": []},
    "rejected": [{"text": "{", "fault": "malformed", "reason": "r"}],
    "selection": {"mode": "progressive", "encoder": "e", "candidates": ["x", "y"], "chosen": [1], "dropped": [],
    "steps": [{"text": "a", "scores": [0.5, null], "chosen": 1}]}}}})"};
}
