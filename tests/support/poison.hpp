// Fills a context's arena with NaN, so that memory which is read before it is written shows.
#pragma once

#include <cstring>

#include <dvla/autodiff/context.hpp>

template <class Context>
void poison(Context& context, std::size_t bytes = std::size_t{1} << 22) {
  void* const memory = context.memory().allocate(bytes);
  std::memset(memory, 0xFF, bytes);
  context.memory().release(memory, bytes);
}
