// The kinds of golden files; each is compiled apart.
#pragma once

#include "formula.hpp"
#include "report.hpp"

namespace parity {

template <class T>
void visformer_224(report& found, golden_file const& golden, bool training);
template <class T>
void visformer_84(report& found, golden_file const& golden, bool training);
template <class T>
void episode_84(report& found, golden_file const& golden, bool training);
template <class T>
void episode_224(report& found, golden_file const& golden, bool training);
template <class T>
void gated_attention(report& found, golden_file const& golden);
template <class T>
void beta(report& found, golden_file const& golden);
void sampler(report& found, golden_file const& golden);
void schedule(report& found, golden_file const& golden);
void resizing(report& found, golden_file const& golden);

}  // namespace parity
