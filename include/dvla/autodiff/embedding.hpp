// Rows of a learned table by number: what a model of tokens begins with.
#pragma once

#include <span>

#include <dvla/autodiff/operand.hpp>

namespace dvla::inline DVLA_ABI {

/// The rows of a table (V, C) that `ids` name: (n, C). Its gradient is added to those rows. Throws for an id beyond the table.
template <class Context, detail::differentiable Table>
[[nodiscard]] auto embedding(Context& context, Table const& input_table, std::span<std::uint32_t const> ids) {
  auto const table = detail::input(input_table);
  using S = typename std::remove_cvref_t<decltype(table)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(table)>::value_type;
  static_assert(S::rank == 2, "embedding: the table is (rows, columns)");
  for (auto const id : ids)
    expect(id < table.shape()[0], "embedding: id ", id, " of a table of shape ", table.shape(), "; is the tokenizer this model's?");
  std::size_t const width = table.shape()[1], count = ids.size();
  auto const index = upload_copy(context, ids);
  auto y = make_variable<T>(context, shape<dyn, S::statics[1]>(count, width));
  gather_rows(context.device(), count, width, index.data_pointer(), static_cast<T const*>(table.data_pointer()), y.data_pointer());
  if (recorded(context, table)) {
    if constexpr (Context::records)
      context.record(y.cell(), [&context, count, width, index, table](T const* dy) {
        auto const target = table.add_gradient();
        if (!target.accumulate) fill(context.device(), table.size(), target.data, T(0));
        scatter_add_rows(context.device(), count, width, index.data_pointer(), dy, target.data);
      });
  }
  return y;
}

}  // namespace dvla::inline DVLA_ABI
