// The kinds of golden files; each is compiled apart.
#pragma once

#include "formula.hpp"
#include "report.hpp"

namespace parity {

template <class Device, class T>
void visformer_224(report& found, golden_file const& golden, bool training);
template <class Device, class T>
void visformer_84(report& found, golden_file const& golden, bool training);
template <class Device, class T>
void episode_84(report& found, golden_file const& golden, bool training);
template <class Device, class T>
void episode_224(report& found, golden_file const& golden, bool training);
template <class Device, class T>
void gated_attention(report& found, golden_file const& golden);
template <class T>
void beta(report& found, golden_file const& golden);
void sampler(report& found, golden_file const& golden);
void schedule(report& found, golden_file const& golden);
void resizing(report& found, golden_file const& golden);

/// The cases of a device on a card, in strict float; without CUDA in the build there is none.
[[nodiscard]] bool cuda_is_there();
bool cuda_network(std::string const& name, golden_file const& golden);
bool cuda_block(std::string const& name, golden_file const& golden);

}  // namespace parity
