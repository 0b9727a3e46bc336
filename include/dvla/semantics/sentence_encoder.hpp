// Sentence encoders of the BERT kind, such as all-MiniLM-L6-v2, from the folder that sentence-transformers publishes.
#pragma once

#include <memory>

#include <dvla/models/bert_text.hpp>
#include <dvla/semantics/model_folder.hpp>
#include <dvla/semantics/token_sequences.hpp>
#include <dvla/semantics/tokenizer/wordpiece_tokenizer.hpp>

namespace dvla::inline DVLA_ABI {

/// How a sentence encoder reads texts.
struct sentence_encoder_options {
  long_text longer = long_text::truncate;
  executor* pool = nullptr;  ///< texts are spread over its threads
};

/// WordPiece ids, a BERT, and the mean of the tokens' vectors (or the first one, as the folder's 1_Pooling says), to unit length.
class sentence_encoder {
 public:
  /// Opens model.safetensors or pytorch_model.bin, config.json and vocab.txt (or tokenizer.json). Throws for a folder that lacks one, and
  /// for weights that are not a BERT's.
  explicit sentence_encoder(std::filesystem::path const& path, sentence_encoder_options options = {}) : options_(options) {
    model_folder const folder(path);
    auto const archive = published_names(folder.weights().state_dict());
    auto const config = folder.json("config.json");
    model_ = std::make_unique<bert_text<>>(sizes(folder, archive, config), detail::extents_of(archive, segments, 2)[0]);
    weights_ = std::make_unique<parameters<>>(*model_, cpu{}, gradient_memory::none);
    load_weights(*weights_, archive);
    open_tokenizer(folder);
    open_pooling(folder);
    auto const& c = model_->config();
    identity_ = concat("bert-sentence weights ", detail::weights_hash(*weights_, options_.pool), " heads ", c.heads, " eps ", c.eps,
                       " vocabulary ", vocabulary_hash_, lower_case_ ? "" : " cased", " pooling ", first_token_ ? "first" : "mean",
                       " tokens ", limit_, ' ', to_string(options_.longer));
  }

  [[nodiscard]] std::size_t width() const { return model_->config().width; }
  [[nodiscard]] std::string const& identity() const { return identity_; }
  [[nodiscard]] wordpiece_tokenizer const& tokenizer() const { return *tokenizer_; }

  /// Unit rows, one a text; see text_encoder.
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    auto const& c = model_->config();
    return detail::encode_texts(*tokenizer_, texts, limit_, options_.longer, c.width, detail::rows_together(c), options_.pool,
                                [&](std::span<std::uint32_t const> ids, std::size_t length, std::span<float> out) {
                                  inference<> context;
                                  auto const rows = (first_token_ ? model_->first_pooled(context, ids, length)
                                                                  : model_->mean_pooled(context, ids, length)).host();
                                  std::copy(rows.begin(), rows.end(), out.begin());
                                });
  }

 private:
  static constexpr char const* words = "embeddings.word_embeddings.weight";
  static constexpr char const* positions = "embeddings.position_embeddings.weight";
  static constexpr char const* segments = "embeddings.token_type_embeddings.weight";

  /// Without wrappers' prefixes, heads and constants; old files call a norm's weight and bias gamma and beta.
  static named_tensors published_names(named_tensors const& archive) {
    return detail::renamed(archive, [](std::string_view name) {
      for (std::string_view const prefix : {"0.auto_model.", "auto_model.", "bert."})
        if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
      if (name.starts_with("pooler.") || name.starts_with("cls.") || name == "embeddings.position_ids") return std::string();
      std::string out(name);
      if (name.ends_with(".gamma")) out.replace(out.size() - 5, 5, "weight");
      if (name.ends_with(".beta")) out.replace(out.size() - 4, 4, "bias");
      return out;
    });
  }

  static text_transformer_config sizes(model_folder const& folder, named_tensors const& archive, nlohmann::json const& config) {
    expect(config.is_object(), folder.name(), " has no config.json, which tells a BERT's heads; copy the model's own there");
    auto const kind = folder.value<std::string>(config, "model_type", "bert");
    expect(kind == "bert", folder.name(), ": a model of type '", kind,
           "'; sentence encoders here are of type bert, such as all-MiniLM-L6-v2");
    text_transformer_config c;
    auto const& table = detail::extents_of(archive, words, 2);
    c.vocabulary = table[0], c.width = table[1];
    c.positions = detail::extents_of(archive, positions, 2)[0];
    c.layers = detail::block_count(archive, "encoder.layer.", ".intermediate.dense.weight");
    c.hidden = detail::extents_of(archive, "encoder.layer.0.intermediate.dense.weight", 2)[0];
    c.heads = folder.value<std::size_t>(config, "num_attention_heads", 0);
    c.eps = folder.value(config, "layer_norm_eps", 1e-12);
    auto const activation = folder.value<std::string>(config, "hidden_act", "gelu");
    expect(activation == "gelu", folder.name(), ": the activation '", activation, "' is not known here; a BERT with gelu is");
    expect(folder.value<std::string>(config, "position_embedding_type", "absolute") == "absolute", folder.name(),
           ": relative position embeddings are not known here; a BERT with absolute ones is");
    return c;
  }

  void open_tokenizer(model_folder const& folder) {
    auto const settings = folder.json("tokenizer_config.json");
    lower_case_ = folder.value(settings, "do_lower_case", true);
    std::vector<std::string> vocabulary;
    std::string source = folder.name();
    if (auto const file = folder.first_of({"vocab.txt"})) {
      source = file->string();
      vocabulary = model_folder::lines(model_folder::text(*file));
    } else {
      vocabulary = vocabulary_of(folder);
    }
    tokenizer_ = std::make_unique<wordpiece_tokenizer>(vocabulary, wordpiece_options{lower_case_}, source);
    expect(tokenizer_->size() <= model_->config().vocabulary, source, " has ", tokenizer_->size(), " tokens, the model's table ",
           model_->config().vocabulary, " rows; they belong to different models");
    constexpr std::size_t padding = 1024;  // tables are rounded up to some power of two, no further
    expect(tokenizer_->size() + padding > model_->config().vocabulary, source, " has ", tokenizer_->size(),
           " tokens, the model's table ", model_->config().vocabulary, " rows; the file is cut short, copy it again");
    std::string all;
    for (auto const& token : vocabulary) all += token + '\n';
    vocabulary_hash_ = sha256_hex(all).substr(0, 16);
  }

  /// The vocabulary of a tokenizer.json.
  static std::vector<std::string> vocabulary_of(model_folder const& folder) {
    auto const json = folder.json("tokenizer.json");
    expect(!json.is_null(), folder.name(), " has neither vocab.txt nor tokenizer.json; copy the model's own there");
    try {
      auto const& ids = json.at("model").at("vocab");
      std::vector<std::string> out(ids.size());
      for (auto const& [token, id] : ids.items()) out.at(id.get<std::size_t>()) = token;
      return out;
    } catch (std::exception const& problem) {
      fail(folder.name(), ": tokenizer.json has no WordPiece vocabulary: ", problem.what(), "; copy the model's vocab.txt there");
    }
  }

  void open_pooling(model_folder const& folder) {
    auto const pooling = folder.json("1_Pooling/config.json");
    bool const mean = folder.value(pooling, "pooling_mode_mean_tokens", true);
    first_token_ = !mean && folder.value(pooling, "pooling_mode_cls_token", false);
    expect(mean || first_token_, folder.name(),
           ": 1_Pooling asks for neither the mean nor the first token; other poolings are not known here");
    limit_ = folder.value(folder.json("sentence_bert_config.json"), "max_seq_length", model_->config().positions);
    limit_ = std::min(limit_, model_->config().positions);
    expect(limit_ > 2, folder.name(), ": at most ", limit_, " tokens a text leave no room between [CLS] and [SEP]; check max_seq_length");
  }

  sentence_encoder_options options_;
  std::unique_ptr<bert_text<>> model_;
  std::unique_ptr<parameters<>> weights_;
  std::unique_ptr<wordpiece_tokenizer> tokenizer_;
  std::string identity_, vocabulary_hash_;
  std::size_t limit_ = 0;
  bool first_token_ = false, lower_case_ = true;
};

}  // namespace dvla::inline DVLA_ABI
