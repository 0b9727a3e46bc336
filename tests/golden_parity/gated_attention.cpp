// The gated block alone, at 192 and 384 channels.
#include <dvla/models/gated_attention.hpp>

#include "cases.hpp"
#include "gradients.hpp"

namespace parity {
namespace {

/// sum(x * signed(name)): x over the file's order.
template <class T>
std::vector<T> direction(golden_file const& golden, std::string const& name, std::size_t count) {
  auto const sequence = golden.sequence(name);
  std::vector<T> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<T>(sequence.s(i));
  return out;
}

template <class V>
double dot(V const& x, auto const& weights) {
  double total = 0;
  for (std::size_t i = 0; i < x.size(); ++i) total += static_cast<double>(x.value().data[i]) * static_cast<double>(weights[i]);
  return total;
}

template <std::size_t Dim, class T>
void run(report& found, golden_file const& golden) {
  using dvla::dyn;
  using dvla::shape;
  std::size_t const tokens = golden.number("tokens"), batch = golden.number("batch");
  std::string const prefix = "gated" + std::to_string(Dim) + ".";
  std::string const levels = golden.text("level_weights");
  dvla::models::gated_attention<Dim, 8, T> block;
  dvla::parameters weights(block);
  fill_by_name(weights, golden, prefix);

  dvla::tensor<T, shape<dyn, dyn, Dim>> z(batch, tokens);
  auto const sequence = golden.sequence("input.z" + std::to_string(Dim));
  for (std::size_t i = 0; i < z.size(); ++i) z.data()[i] = static_cast<T>(sequence.s(i));
  auto const local = unit_rows_by_name<T>(golden, "input.local", golden.number("local_phrases"), 512);
  auto const global = unit_rows_by_name<T>(golden, "input.global", golden.number("global_phrases"), 512);
  dvla::tensor<T, shape<dyn, 1, 1>> gates(batch);
  gates.fill(static_cast<T>(golden.real("gate")));

  dvla::tape<> tape;
  auto const vz = tape(z).watch();
  auto const vl = tape(local).watch(), vg = tape(global).watch();
  auto const semantic = block.tokens(vl, vg, {std::stod(levels), std::stod(levels.substr(levels.find(' ')))});
  auto const fused = block.fuse(vz, semantic, tape(gates));
  auto const context = block.enrich(vz, fused);
  auto const along_z = direction<T>(golden, "proj:z", context.size());
  auto const along_fused = direction<T>(golden, "proj:fused", fused.size());
  auto const& b = bounds_of<T>;
  auto const first = [&](char const* name, auto const& v, double bound) {
    found.add(name, name, relative_error(v.data, golden.values(name)), bound);
  };
  first("tokens", semantic.value(), b.output);
  first("z_context", context.value(), b.output);
  first("fused", fused.value(), b.output);
  found.add("projections", "z_context_proj", relative_error(std::vector{dot(context, along_z)}, golden.values("z_context_proj")), b.output);
  found.add("projections", "fused_proj", relative_error(std::vector{dot(fused, along_fused)}, golden.values("fused_proj")), b.output);

  dvla::view<T const, shape<dyn, dyn, Dim>> const dz(along_z.data(), context.shape());
  dvla::view<T const, shape<dyn, dyn, Dim>> const df(along_fused.data(), fused.shape());
  auto const loss = sum<0>(sum<0>(sum(context * tape(dz))));
  auto const other = sum<0>(sum<0>(sum(fused * tape(df))));
  tape.backward(evaluate(loss + other));
  first("grad_z", vz.gradient(), b.gradient);
  first("grad_local", vl.gradient(), b.gradient);
  first("grad_global", vg.gradient(), b.gradient);
  double const largest = largest_gradient(golden);
  for (auto const& e : weights.entries())
    compare_gradient(found, golden, prefix + e.name, weights.gradients().data() + e.offset, e.layout, largest);
}

}  // namespace

template <class T>
void gated_attention(report& found, golden_file const& golden) {
  std::size_t const dim = golden.number("dim");
  if (dim == 192) run<192, T>(found, golden);
  else if (dim == 384) run<384, T>(found, golden);
  else dvla::fail("gated attention of ", dim, " channels is not compiled into this program; 192 and 384 are");
}

template void gated_attention<float>(report&, golden_file const&);
template void gated_attention<double>(report&, golden_file const&);

}  // namespace parity
