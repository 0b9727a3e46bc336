// What the command line says, as plain values. Optional ones may also come from the checkpoint's configuration.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace cli {

/// Where images come from and how they are prepared.
struct data_options {
  std::string root;
  std::optional<std::string> preprocess;
  bool in_memory = false;
};

/// Which few-shot learner, and which semantics it sees.
struct learner_options {
  std::optional<std::string> method, gate_scope, semantics_scope, padding, semantics, encoder;
  std::optional<double> gate;
  std::optional<std::size_t> phrases;
  std::optional<bool> centre, unit;
};

/// Where and how a command computes.
struct compute_options {
  std::string device = "cpu";
  std::optional<std::string> precision;  // of a card: f32, tf32 or bf16
  std::optional<std::string> images_on;  // what prepares images for a card: auto, card or host
};

/// How a run is kept and how long it lasts.
struct run_options {
  std::string out;
  std::uint64_t seed = 12345;
  std::size_t threads = 0;
  std::uint64_t save_every = 0;
  double max_minutes = 0;
  bool resume = false;
};

struct pretrain_options {
  data_options data;
  compute_options compute;
  run_options run;
  std::string model, augment = "pretrain";
  double epochs = 100, warmup = 5, lr = 5e-4, weight_decay = 0.05, k_decay = 1, label_smoothing = 0.1, mixup = 0.3, cutmix = 1;
  double drop_path = 0.1, clip = 0, average = 0, smallest_area = 0.2, erasing = 0;
  std::size_t batch = 128, repeats = 1;
  double validate_every = 10;
};

struct meta_options {
  data_options data;
  compute_options compute;
  run_options run;
  learner_options learner;
  std::string checkpoint, augment = "none";
  std::optional<std::string> model;
  double epochs = 100, lr = 5e-4, backbone_lr = 1e-6, weight_decay = 1e-4, drop_path = 0.5, clip = 0;
  std::size_t way = 5, shot = 1, query = 15, episodes_per_epoch = 0, validation_episodes = 600;
};

struct evaluate_options {
  data_options data;
  compute_options compute;
  learner_options learner;
  std::string checkpoint, split = "novel", json;
  std::optional<std::string> model;
  std::uint32_t seed = 0;
  std::size_t threads = 0, way = 5, shot = 1, query = 15, episodes = 2000;
};

struct convert_options {
  std::string from, to, strip;
};

struct info_options {
  std::string checkpoint, model;
  bool device = false;
  std::size_t threads = 0;
};

}  // namespace cli
