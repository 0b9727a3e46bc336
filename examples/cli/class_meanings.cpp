// Banks for the models: compiled once, so that the models' files need no reader of banks and no encoder.
#include "class_meanings.hpp"

#include <dvla/data/image_folder.hpp>
#include <dvla/semantics/bank_file.hpp>
#include <dvla/semantics/encode_bank.hpp>

#include "text_encoders.hpp"

namespace cli {

class_meanings read_meanings(std::string const& name, std::string const& encoder, std::size_t phrases, std::string const& root,
                             std::vector<std::string> const& splits) {
  std::string const file = dvla::bank_file(name).string();
  encoder_options how;
  how.encoder = encoder;
  auto const bank = dvla::holds_texts(file) ? dvla::read_bank(file, open_encoder(how)) : dvla::read_vectors(file);
  std::vector<std::pair<std::string, std::vector<std::string>>> wanted;
  for (auto const& split : splits) wanted.emplace_back(split, dvla::open_split(root, split).classes);
  dvla::expect_classes(bank, wanted);
  class_meanings out{{}, bank.hash};
  for (auto const& [split, classes] : wanted) out.splits.push_back(dvla::vectors_of(bank, classes, phrases));
  return out;
}

}  // namespace cli
