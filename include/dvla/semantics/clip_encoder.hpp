// CLIP's text encoder from published files: a Hugging Face folder, or a file with OpenAI's or open_clip's names beside its merges.
#pragma once

#include <memory>
#include <optional>

#include <dvla/models/clip_text.hpp>
#include <dvla/semantics/clip_names.hpp>
#include <dvla/semantics/token_sequences.hpp>
#include <dvla/semantics/tokenizer/clip_tokenizer.hpp>

namespace dvla::inline DVLA_ABI {

/// How CLIP reads texts.
struct clip_encoder_options {
  clip_cleaning cleaning = clip_cleaning::openai;
  long_text longer = long_text::truncate;
  std::optional<text_activation> activation{};  ///< of the blocks; else the configuration's, and quick-GELU where there is none
  executor* pool = nullptr;                     ///< texts are spread over its threads
};

/// CLIP's tokenizer and text tower; rows are projected and of unit length.
class clip_encoder {
 public:
  /// Opens weights (safetensors or a PyTorch file), merges.txt, bpe_simple_vocab_16e6.txt or tokenizer.json, and config.json or
  /// open_clip_config.json if there is one. The path is a folder, or the file of weights in it. Throws for what is missing or does not fit.
  explicit clip_encoder(std::filesystem::path const& path, clip_encoder_options options = {}) : options_(options) {
    model_folder const folder(path);
    auto const archive = detail::clip_text_tensors(folder.weights());
    model_ = std::make_unique<clip_text<>>(sizes(folder, archive));
    weights_ = std::make_unique<parameters<>>(*model_, cpu{}, gradient_memory::none);
    load_weights(*weights_, archive);
    std::string const merges_hash = open_tokenizer(folder);
    auto const& c = model_->config();
    identity_ = concat("clip-text weights ", detail::weights_hash(*weights_, options_.pool), " heads ", c.heads, " eps ", c.eps,
                       c.activation == text_activation::gelu ? " gelu" : " quick-gelu", " merges ", merges_hash,
                       options_.cleaning == clip_cleaning::openai ? " openai" : " hugging-face", " tokens ", c.positions, ' ',
                       to_string(options_.longer));
  }

  [[nodiscard]] std::size_t width() const { return model_->config().projection; }
  [[nodiscard]] std::string const& identity() const { return identity_; }
  [[nodiscard]] clip_tokenizer const& tokenizer() const { return *tokenizer_; }

  /// Unit rows, one a text; see text_encoder.
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    auto const& c = model_->config();
    return detail::encode_texts(*tokenizer_, texts, c.positions, options_.longer, c.projection, detail::rows_together(c), options_.pool,
                                [&](std::span<std::uint32_t const> ids, std::size_t length, std::span<float> out) {
                                  inference<> context;
                                  auto const rows = model_->pooled(context, ids, length).host();
                                  std::copy(rows.begin(), rows.end(), out.begin());
                                });
  }

 private:
  [[nodiscard]] text_transformer_config sizes(model_folder const& folder, named_tensors const& archive) const {
    text_transformer_config c;
    auto const& table = detail::extents_of(archive, "text_model.embeddings.token_embedding.weight", 2);
    c.vocabulary = table[0], c.width = table[1];
    c.positions = detail::extents_of(archive, "text_model.embeddings.position_embedding.weight", 2)[0];
    c.layers = detail::block_count(archive, "text_model.encoder.layers.", ".mlp.fc1.weight");
    c.hidden = detail::extents_of(archive, "text_model.encoder.layers.0.mlp.fc1.weight", 2)[0];
    c.projection = detail::extents_of(archive, "text_projection.weight", 2)[0];
    expect(c.positions > 2, folder.name(), ": ", c.positions, " positions leave no room for a text between its two marks");
    auto const whole = folder.json("config.json"), open_clip = folder.json("open_clip_config.json");
    auto const config = whole.is_object() && whole.contains("text_config") ? whole.at("text_config") : whole;
    auto const theirs = open_clip.is_object() ? open_clip.value("model_cfg", nlohmann::json()) : nlohmann::json();
    auto const text = theirs.is_object() ? theirs.value("text_cfg", nlohmann::json()) : nlohmann::json();
    c.heads = folder.value<std::size_t>(config, "num_attention_heads", folder.value<std::size_t>(text, "heads", c.width / 64));
    c.eps = folder.value(config, "layer_norm_eps", 1e-5);
    // open_clip's models have the exact GELU unless their configuration says otherwise; OpenAI's all have the quick one.
    bool const exact = whole.is_null() && theirs.is_object() && !folder.value(theirs, "quick_gelu", false);
    auto const named = folder.value<std::string>(config, "hidden_act", exact ? "gelu" : "quick_gelu");
    expect(named == "gelu" || named == "quick_gelu", folder.name(), ": the activation '", named,
           "' is not known here; gelu and quick_gelu are");
    c.activation = options_.activation.value_or(named == "gelu" ? text_activation::gelu : text_activation::quick_gelu);
    return c;
  }

  /// Returns a hash of the merges.
  std::string open_tokenizer(model_folder const& folder) {
    auto const [merges, source] = read_merges(folder);
    tokenizer_ = std::make_unique<clip_tokenizer>(merges, clip_tokenizer_options{options_.cleaning}, source);
    expect(tokenizer_->size() == model_->config().vocabulary, source, " makes ", tokenizer_->size(), " tokens, the model's table has ",
           model_->config().vocabulary, " rows; they belong to different models");
    sha256 hash;
    for (std::size_t i = 0; i < std::min(merges.size(), clip_tokenizer::published_merges); ++i) hash.update(merges[i] + '\n');
    return hash.finish_hex().substr(0, 16);
  }

  struct merge_list {
    std::vector<std::string> lines;
    std::string source;
  };

  static merge_list read_merges(model_folder const& folder) {
    if (auto const file = folder.first_of({"merges.txt", "bpe_simple_vocab_16e6.txt"})) {
      merge_list out{model_folder::lines(model_folder::text(*file)), file->string()};
      if (!out.lines.empty()) out.lines.erase(out.lines.begin());  // a version
      return out;
    }
    auto const json = folder.json("tokenizer.json");
    if (json.is_null()) {
      bool const packed = folder.first_of({"bpe_simple_vocab_16e6.txt.gz"}).has_value();
      fail(folder.name(), " has no merges.txt, bpe_simple_vocab_16e6.txt or tokenizer.json; ",
           packed ? "unpack bpe_simple_vocab_16e6.txt.gz (gunzip)" : "copy one of the model's there");
    }
    merge_list out{{}, concat(folder.name(), "/tokenizer.json")};
    try {
      for (auto const& pair : json.at("model").at("merges")) {
        auto const joined = [&] { return concat(pair.at(0).get<std::string>(), ' ', pair.at(1).get<std::string>()); };
        out.lines.push_back(pair.is_string() ? pair.get<std::string>() : joined());
      }
    } catch (nlohmann::json::exception const& problem) {
      fail(out.source, " has no byte-pair merges: ", problem.what(), "; copy the model's merges.txt there");
    }
    return out;
  }

  clip_encoder_options options_;
  std::unique_ptr<clip_text<>> model_;
  std::unique_ptr<parameters<>> weights_;
  std::unique_ptr<clip_tokenizer> tokenizer_;
  std::string identity_;
};

}  // namespace dvla::inline DVLA_ABI
