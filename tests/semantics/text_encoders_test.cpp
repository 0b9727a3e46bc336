// Encoders from folders as they are published: names of tensors, tokenizers, long texts, and what is said of a broken folder.
#include <doctest/doctest.h>

#include <cstring>
#include <fstream>

#include <dvla/core/thread_pool.hpp>
#include <dvla/semantics/open_text_encoder.hpp>

#include "io/io_support.hpp"
#include "semantics/formula_models.hpp"
#include "semantics/tokenizer_cases.hpp"
#include "support/tensors.hpp"

namespace {

namespace fs = std::filesystem;
using dvla::open_text_encoder;
using dvla_test::scratch_folder;

void write_lines(fs::path const& path, std::vector<std::string> const& lines) {
  std::ofstream out(path);
  for (auto const& line : lines) out << line << '\n';
}

/// A small CLIP with weights from the formula, and what writes it as others publish it.
struct published_clip {
  dvla::clip_text<> model{small_clip_config()};
  dvla::parameters<> weights{model};
  scratch_folder folder;

  published_clip() {
    fill_by_formula(weights);
    auto lines = tokenizer_cases().lines("clip.small.merges");
    lines.insert(lines.begin(), "#version: 0.2");
    write_lines(folder / "merges.txt", lines);
    dvla_test::write_bytes(folder / "config.json", R"({"text_config": {"num_attention_heads": 5, "hidden_act": "quick_gelu"}})");
  }

  std::vector<float> values(std::string const& name) const {
    for (auto const& e : weights.entries())
      if (e.name == name) return weights.read(e);
    return {};
  }

  /// Hugging Face's names behind a prefix, without the tensors that `leave_out` begins.
  void write_hugging_face(std::string const& prefix, std::string const& leave_out = "none") const {
    dvla::safetensors_writer writer;
    for (auto const& e : weights.entries())
      if (!e.name.starts_with(leave_out))
        writer.add(prefix + e.name, dvla::detail::file_shape(e.layout), std::span<float const>(weights.read(e)));
    std::int64_t const place = 0;
    writer.add(prefix + "text_model.embeddings.position_ids", {1, 1}, std::span<std::int64_t const>(&place, 1));
    float const other = 0;
    writer.add(prefix + "vision_model.embeddings.class_embedding", {1}, std::span<float const>(&other, 1));
    writer.add(prefix + "logit_scale", {}, std::span<float const>(&other, 1));
    writer.write(folder / "model.safetensors");
  }

  void write_openai(std::string const& prefix) const {
    dvla::safetensors_writer writer;
    auto const c = model.config();
    auto const add = [&](std::string const& name, std::vector<std::size_t> shape, std::vector<float> const& data) {
      writer.add(prefix + name, std::move(shape), std::span<float const>(data));
    };
    add("token_embedding.weight", {c.vocabulary, c.width}, values("text_model.embeddings.token_embedding.weight"));
    add("positional_embedding", {c.positions, c.width}, values("text_model.embeddings.position_embedding.weight"));
    auto const projection = values("text_projection.weight");
    std::vector<float> turned(projection.size());
    for (std::size_t i = 0; i < c.projection; ++i)
      for (std::size_t j = 0; j < c.width; ++j) turned[j * c.projection + i] = projection[i * c.width + j];
    add("text_projection", {c.width, c.projection}, turned);
    for (std::string const end : {"weight", "bias"}) {
      add("ln_final." + end, {c.width}, values("text_model.final_layer_norm." + end));
      for (std::size_t i = 0; i < c.layers; ++i) {
        std::string const ours = dvla::concat("text_model.encoder.layers.", i, ".");
        std::string const theirs = dvla::concat("transformer.resblocks.", i, ".");
        auto const moved = [&](std::string const& from, std::string const& to, std::size_t rows, std::size_t columns) {
          add(theirs + to + end, end == "bias" || columns == 0 ? std::vector{rows} : std::vector{rows, columns}, values(ours + from + end));
        };
        moved("layer_norm1.", "ln_1.", c.width, 0);
        moved("layer_norm2.", "ln_2.", c.width, 0);
        moved("self_attn.out_proj.", "attn.out_proj.", c.width, c.width);
        moved("mlp.fc1.", "mlp.c_fc.", c.hidden, c.width);
        moved("mlp.fc2.", "mlp.c_proj.", c.width, c.hidden);
        std::vector<float> all;
        for (char const part : {'q', 'k', 'v'}) {
          auto const one = values(dvla::concat(ours, "self_attn.", part, "_proj.", end));
          all.insert(all.end(), one.begin(), one.end());
        }
        add(theirs + "attn.in_proj_" + end, end == "bias" ? std::vector{3 * c.width} : std::vector{3 * c.width, c.width}, all);
      }
    }
    float const other = 0;
    add("visual.proj", {1}, {other});
    add("logit_scale", {1}, {other});
    writer.write(folder / "model.safetensors");
  }

  [[nodiscard]] dvla::any_text_encoder open(dvla::text_encoder_options const& options = {}) const {
    return open_text_encoder("clip:" + (folder / "").string(), options);
  }
};

/// A small BERT with weights from the formula, as sentence-transformers publishes it.
struct published_bert {
  std::vector<std::string> vocabulary = tokenizer_cases().lines("wordpiece.small.vocabulary");
  dvla::bert_text<> model;
  dvla::parameters<> weights{model};
  scratch_folder folder;

  /// With so many rows of the table beyond the vocabulary.
  explicit published_bert(std::size_t more = 0) : model{small_bert_config(vocabulary.size() + more)} {
    fill_by_formula(weights);
    write_lines(folder / "vocab.txt", vocabulary);
    dvla_test::write_bytes(folder / "config.json", R"({"model_type": "bert", "num_attention_heads": 3, "layer_norm_eps": 1e-12})");
    write("");
  }

  /// Behind a prefix; old files call a norm's weight gamma and its bias beta.
  void write(std::string const& prefix, bool old_names = false) const {
    dvla::safetensors_writer writer;
    for (auto const& e : weights.entries()) {
      std::string name = prefix + e.name;
      for (std::string const norm : {"LayerNorm.weight", "LayerNorm.bias"})
        if (old_names && name.ends_with(norm)) name.replace(name.rfind('.'), name.size(), norm.ends_with("bias") ? ".beta" : ".gamma");
      writer.add(name, dvla::detail::file_shape(e.layout), std::span<float const>(weights.read(e)));
    }
    float const other = 0;
    writer.add(prefix + "pooler.dense.bias", {1}, std::span<float const>(&other, 1));
    writer.write(folder / "model.safetensors");
  }

  void pool_first() const {
    fs::create_directory(folder / "1_Pooling");
    dvla_test::write_bytes(folder / "1_Pooling/config.json", R"({"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": true})");
  }

  [[nodiscard]] dvla::any_text_encoder open() const { return open_text_encoder("bert:" + (folder / "").string()); }
};

std::vector<std::string> const texts{"a photo of a cat", "A photo of a dog, which has long fur", "", "fur", "a photo of a cat", "ein Text"};

double length(std::span<float const> row) {
  double squares = 0;
  for (float const x : row) squares += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(squares);
}

}  // namespace

TEST_CASE("CLIP's files give one encoder under Hugging Face's names, OpenAI's and any prefix") {
  published_clip const clip;
  clip.write_hugging_face("");
  auto const plain = clip.open();
  CHECK(plain.width() == 37);
  auto const rows = plain.encode(texts);
  REQUIRE(rows.size() == texts.size() * 37);
  for (std::size_t i = 0; i < texts.size(); ++i) CHECK(length(std::span(rows).subspan(i * 37, 37)) == doctest::Approx(1));
  for (std::string const prefix : {"clip.", "model.", "module.", "cond_stage_model.transformer."}) {
    clip.write_hugging_face(prefix);
    CHECK(clip.open().identity() == plain.identity());
    CHECK(clip.open().encode(texts) == rows);
  }
  for (std::string const prefix : {"", "text.", "module."}) {
    clip.write_openai(prefix);
    CHECK(clip.open().identity() == plain.identity());
    CHECK(clip.open().encode(texts) == rows);
  }
  CHECK(open_text_encoder("clip:" + (clip.folder / "model.safetensors").string()).identity() == plain.identity());
  CHECK(clip.open({.cleaning = dvla::clip_cleaning::hugging_face}).identity() != plain.identity());
}

TEST_CASE("A sentence encoder's folder gives the vectors of transformers, pooled by the mean or the first token") {
  published_bert const bert;
  auto const archive = dvla::open_tensors(fixture_folder() / "bert_vectors.safetensors");
  auto const all = tokenizer_cases().texts();
  std::vector<std::string> some;
  for (auto const i : dvla::read_as<std::uint32_t>(archive.find("texts"))) some.push_back(all.at(i));
  auto const expect_rows = [&](dvla::any_text_encoder const& encoder, char const* pooling) {
    auto const expected = dvla::read_as<float>(archive.find(pooling));
    auto const rows = encoder.encode(some);
    REQUIRE(rows.size() == expected.size());
    CHECK(distance(rows.size(), rows.data(), expected.data()) <= 1e-5);
  };
  auto const mean = bert.open();
  expect_rows(mean, "mean");
  for (std::string const prefix : {"bert.", "0.auto_model.", "module.bert."}) {
    bert.write(prefix, true);
    CHECK(bert.open().identity() == mean.identity());
  }
  bert.pool_first();
  auto const first = bert.open();
  expect_rows(first, "first");
  CHECK(first.identity() != mean.identity());
}

TEST_CASE("A tokenizer.json stands in for a vocabulary or merges that are not there") {
  published_bert const bert;
  auto const before = bert.open().identity();
  nlohmann::json vocabulary;
  for (std::size_t i = 0; i < bert.vocabulary.size(); ++i) vocabulary["model"]["vocab"][bert.vocabulary[i]] = i;
  dvla_test::write_bytes(bert.folder / "tokenizer.json", vocabulary.dump());
  fs::remove(bert.folder / "vocab.txt");
  CHECK(bert.open().identity() == before);

  published_clip const clip;
  clip.write_hugging_face("");
  auto const merged = clip.open().identity();
  fs::remove(clip.folder / "merges.txt");
  nlohmann::json joined, pairs;
  for (auto const& line : tokenizer_cases().lines("clip.small.merges")) {
    joined["model"]["merges"].push_back(line);
    pairs["model"]["merges"].push_back({line.substr(0, line.find(' ')), line.substr(line.find(' ') + 1)});
  }
  for (auto const& json : {joined, pairs}) {
    dvla_test::write_bytes(clip.folder / "tokenizer.json", json.dump());
    CHECK(clip.open().identity() == merged);
  }
}

TEST_CASE("A text has one row, whatever stands beside it and on any number of threads") {
  published_clip const clip;
  clip.write_hugging_face("");
  auto const all = tokenizer_cases().texts();
  std::span<std::string const> const some(all.data(), 300);
  dvla::thread_pool pool(3);
  auto const rows = clip.open({.pool = &pool}).encode(some);
  auto const alone = clip.open();
  for (std::size_t i = 0; i < some.size(); ++i) {
    auto const row = alone.encode(some.subspan(i, 1));
    CHECK(std::equal(row.begin(), row.end(), rows.begin() + static_cast<std::ptrdiff_t>(i * 37)));
  }
}

TEST_CASE("CLIP without a projection gives the tower's own width") {
  published_clip const clip;
  clip.write_hugging_face("", "text_projection");
  CHECK(clip.open().width() == 60);
}

TEST_CASE("Long texts are cut, or averaged over sentences or pieces") {
  published_clip const clip;
  clip.write_hugging_face("");
  std::string sentence = "a dog";
  while (sentence.size() < 190) sentence += " a dog";
  std::vector<std::string> const parts{sentence + ".", sentence + " fur.", "cat"};
  std::vector<std::string> const whole{parts[0] + " " + parts[1] + " " + parts[2]};
  auto const mean = clip.open({.longer = dvla::long_text::sentence_mean});
  auto const rows = mean.encode(parts);
  std::vector<float> expected(37);
  for (std::size_t i = 0; i < 3 * 37; ++i) expected[i % 37] += rows[i] / 3;
  double const norm = length(expected);
  for (float& x : expected) x = static_cast<float>(static_cast<double>(x) / norm);
  auto const row = mean.encode(whole);
  CHECK(distance(37, row.data(), expected.data()) <= 1e-6);
  auto const cut = clip.open(), pieces = clip.open({.longer = dvla::long_text::chunk_mean});
  CHECK(cut.encode(whole) != row);
  CHECK(pieces.encode(whole) != row);
  CHECK(length(pieces.encode(whole)) == doctest::Approx(1));
  CHECK(cut.encode(texts) == pieces.encode(texts));
  CHECK(cut.identity() != pieces.identity());
  CHECK(dvla::parse_long_text("chunk-mean") == dvla::long_text::chunk_mean);
  CHECK(contains(message_of([] { (void)dvla::parse_long_text("cut"); }), "give truncate, sentence-mean or chunk-mean"));
}

TEST_CASE("What a folder or specification lacks is named with its remedy") {
  scratch_folder const folder;
  std::string const path = (folder / "").string();
  auto const message = [](std::string const& specification) { return message_of([&] { (void)open_text_encoder(specification); }); };
  CHECK(open_text_encoder("hashed").width() == 512);
  CHECK(contains(message("word2vec:x"), "text encoder 'word2vec:x': the kind is not known; give hashed"));
  CHECK(contains(message("clip"), "give the model's folder behind the colon, clip:FOLDER"));
  CHECK(contains(message("minilm:/no/such"), "/no/such: there is no such folder"));
  CHECK(contains(message("minilm:" + path), "holds no weights; put the model's model.safetensors"));
  published_clip const clip;
  clip.write_hugging_face("", "text_model.encoder.layers.1.mlp.fc2.bias");
  CHECK(contains(message_of([&] { (void)clip.open(); }), "'text_model.encoder.layers.1.mlp.fc2.bias'"));
  clip.write_hugging_face("");
  CHECK(contains(message("minilm:" + (clip.folder / "").string()), "has no tensor 'embeddings.token_type_embeddings.weight'"));
  CHECK_NOTHROW((void)published_bert(1023).open());
  CHECK(contains(message_of([] { (void)published_bert(1024).open(); }), "rows; the file is cut short, copy it again"));
  fs::rename(clip.folder / "merges.txt", clip.folder / "other.txt");
  CHECK(contains(message_of([&] { (void)clip.open(); }), "has no merges.txt, bpe_simple_vocab_16e6.txt or tokenizer.json"));
  dvla_test::write_bytes(clip.folder / "bpe_simple_vocab_16e6.txt.gz", "x");
  CHECK(contains(message_of([&] { (void)clip.open(); }), "unpack bpe_simple_vocab_16e6.txt.gz"));
  write_lines(clip.folder / "merges.txt", {"#version: 0.2", "a b"});
  CHECK(contains(message_of([&] { (void)clip.open(); }), "makes 515 tokens, the model's table has 2514 rows"));
  dvla_test::write_bytes(clip.folder / "config.json", "{");
  CHECK(contains(message_of([&] { (void)clip.open(); }), "config.json is no JSON"));
  dvla_test::write_bytes(clip.folder / "config.json", R"({"hidden_act": "relu"})");
  CHECK(contains(message_of([&] { (void)clip.open(); }), "the activation 'relu' is not known here"));
}
