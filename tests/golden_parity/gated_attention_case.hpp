// The gated block alone, at 192 and 384 channels, against a golden file.
#pragma once

#include <utility>

#include <dvla/models/gated_attention.hpp>

#include "gradients.hpp"

namespace parity {

/// sum(x * signed(name)): x over the file's order.
template <class T>
std::vector<T> direction(golden_file const& golden, std::string const& name, std::size_t count) {
  auto const sequence = golden.sequence(name);
  std::vector<T> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<T>(sequence.s(i));
  return out;
}

template <class V>
double dot(V const& variable, auto const& weights) {
  auto const x = variable.host();
  double total = 0;
  for (std::size_t i = 0; i < x.size(); ++i) total += static_cast<double>(x[i]) * static_cast<double>(weights[i]);
  return total;
}

/// The gradient of a watched input in host memory.
template <class T, class S, class C>
std::vector<T> host_gradient(dvla::variable<T, S, C> const& v) {
  std::vector<T> out(v.size());
  download(v.context().device(), v.size(), v.gradient().data, out.data());
  return out;
}

template <std::size_t Dim, std::size_t Heads, class Device, class T>
void gated_block(report& found, golden_file const& golden) {
  using dvla::dyn;
  using dvla::shape;
  std::size_t const tokens = golden.count("tokens"), batch = golden.count("batch");
  std::size_t const local_phrases = golden.count("local_phrases"), global_phrases = golden.count("global_phrases");
  auto const reference = golden.values("tokens", {local_phrases + global_phrases, Dim});
  std::string const prefix = "gated" + std::to_string(Dim) + ".";
  auto const levels = golden.reals("level_weights", 2);
  dvla::models::gated_attention<Dim, Heads, T> block;
  dvla::parameters weights(block, Device{});
  fill_by_name(weights, golden, prefix);

  dvla::tensor<T, shape<dyn, dyn, Dim>> z(batch, tokens);
  auto const sequence = golden.sequence("input.z" + std::to_string(Dim));
  for (std::size_t i = 0; i < z.size(); ++i) z.data()[i] = static_cast<T>(sequence.s(i));
  auto const local = unit_rows_by_name<T>(golden, "input.local", local_phrases, 512);
  auto const global = unit_rows_by_name<T>(golden, "input.global", global_phrases, 512);
  dvla::tensor<T, shape<dyn, 1, 1>> gates(batch);
  gates.fill(static_cast<T>(golden.reals("gate")[0]));

  dvla::tape<Device> tape;
  auto const vz = tape(z).watch();
  auto const vl = tape(local).watch(), vg = tape(global).watch();
  auto const semantic = block.tokens(vl, vg, {levels[0], levels[1]});
  auto const fused = block.fuse(vz, semantic, tape(gates));
  auto const context = block.enrich(vz, fused);
  auto const along_z = direction<T>(golden, "proj:z", context.size());
  auto const along_fused = direction<T>(golden, "proj:fused", fused.size());
  auto const& b = bounds_of<T>;
  auto const first = [&](char const* name, auto const& v) {
    found.add(name, name, relative_error(v.host(), golden.first_values(name, extents_of(v))), b.output);
  };
  found.add("tokens", "tokens", relative_error(semantic.host(), reference), b.output);
  first("z_context", context);
  first("fused", fused);
  auto const projection = [&](char const* name, double value) {
    found.add("projections", name, relative_error(std::vector{value}, golden.values(name, {1})), b.output);
  };
  projection("z_context_proj", dot(context, along_z));
  projection("fused_proj", dot(fused, along_fused));

  dvla::view<T const, shape<dyn, dyn, Dim>> const dz(along_z.data(), context.shape());
  dvla::view<T const, shape<dyn, dyn, Dim>> const df(along_fused.data(), fused.shape());
  auto const loss = sum<0>(sum<0>(sum(context * tape(dz))));
  auto const other = sum<0>(sum<0>(sum(fused * tape(df))));
  tape.backward(evaluate(loss + other));
  double const largest = largest_gradient(golden);
  auto const input = [&](char const* name, auto const& v, std::vector<double> const& stored) {
    found.add(name, name, relative_error(host_gradient(v), stored, b.gradient_floor * largest), b.gradient);
  };
  input("grad_z", vz, golden.first_values("grad_z", extents_of(vz)));
  input("grad_local", vl, golden.values("grad_local", extents_of(vl)));
  input("grad_global", vg, golden.values("grad_global", extents_of(vg)));
  for (auto const& e : weights.entries())
    compare_gradient(found, golden, prefix + e.name, weights.read_gradient(e).data(), e.layout, largest);
}

/// The file's number of heads, of those that are compiled.
template <std::size_t Dim, class Device, class T, std::size_t... Heads>
void gated_block_of_heads(report& found, golden_file const& golden, std::index_sequence<Heads...>) {
  std::size_t const heads = golden.count("heads");
  if (!((heads == Heads && (gated_block<Dim, Heads, Device, T>(found, golden), true)) || ...))
    golden.refuse("gated attention of ", heads, " heads is not compiled into this program; 1, 2, 3, 4, 6, 8, 12 and 16 are");
}

template <class Device, class T>
void gated_attention_case(report& found, golden_file const& golden) {
  using heads = std::index_sequence<1, 2, 3, 4, 6, 8, 12, 16>;
  std::size_t const dim = golden.count("dim");
  if (dim == 192)
    gated_block_of_heads<192, Device, T>(found, golden, heads{});
  else if (dim == 384)
    gated_block_of_heads<384, Device, T>(found, golden, heads{});
  else
    golden.refuse("gated attention of ", dim, " channels is not compiled into this program; 192 and 384 are");
}

}  // namespace parity
