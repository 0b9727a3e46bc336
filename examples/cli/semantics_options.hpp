// What the commands under `dvla semantics` are told, as plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cli {

/// Which text encoder, and where its vectors are kept.
struct encoder_options {
  std::string encoder = "hashed", cache, long_text = "truncate";
  bool offline = false;
};

struct generate_options {
  std::string data, texts, names, out, level = "attributes", recorded, cache;
  std::vector<std::string> splits;
  std::size_t images = 5, most = 12;
  std::uint64_t seed = 12345;
  bool per_image = false, offline = false, refresh = false, dry_run = false;
  std::string base_url = "http://localhost:8000/v1", model, provider = "openai-compatible", key_variable, ca_file, extra_body;
  std::size_t concurrency = 4, max_tokens = 512, max_requests = 0, max_total_tokens = 0;
};

struct select_options {
  std::string texts, out, mode = "progressive";
  encoder_options encoder;
  std::size_t k = 4;
  double duplicate = 0.9;
  std::optional<double> foreign;
};

struct encode_options {
  std::string texts, out, levels = "both";
  encoder_options encoder;
  std::size_t phrases = 0;
  bool from_intrinsic = false, no_roles = false, centre = false, unit = false;
};

struct show_options {
  std::string file;
  std::vector<std::string> classes;
};

struct merge_options {
  std::vector<std::string> banks;
  std::string out, on_clash = "refuse";
  bool centre = false, unit = false;
};

struct check_options {
  std::string file, data;
};

struct semantics_options {
  generate_options generate;
  select_options select;
  encode_options encode;
  show_options show;
  merge_options merge;
  check_options check;
};

/// The commands. They throw sentences; results go to stdout, everything else to stderr.
void semantics_generate(generate_options const& options);
void semantics_select(select_options const& options);
void semantics_encode(encode_options const& options);
void semantics_show(show_options const& options);
void semantics_merge(merge_options const& options);
void semantics_check(check_options const& options);

}  // namespace cli
