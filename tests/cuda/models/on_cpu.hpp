// The CPU's side of the checkpoints that move between devices; compiled by the host's compiler alone.
#pragma once

#include <filesystem>
#include <vector>

namespace on_cpu {

/// Trains the small model for some steps and writes the training checkpoint; the logits of the test images in evaluation mode.
std::vector<float> train(std::filesystem::path const& file);

/// Reads a model and gives its logits of the test images.
std::vector<float> logits(std::filesystem::path const& file);

/// Reads a training checkpoint and writes it to another file.
void copy_training(std::filesystem::path const& from, std::filesystem::path const& to);

/// The images whose logits are compared.
std::vector<float> test_images();
inline constexpr std::size_t test_count = 24;

}  // namespace on_cpu
