// The memory behind a variable: a value, and once somebody contributes to it, a gradient. Cells are counted: the value
// goes back to the arena with its last reader, the gradient with the last holder, as in a program that frees by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <dvla/core/arena.hpp>
#include <dvla/core/bfloat16.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

template <class T>
struct cell;

/// A counted reference to a cell. A reader keeps the value alive; a mere holder only the gradient.
template <class T, bool Reads>
class cell_reference {
 public:
  cell_reference() = default;
  explicit cell_reference(cell<T>* c) : cell_(c) { acquire(); }
  cell_reference(cell_reference const& other) : cell_(other.cell_) { acquire(); }
  cell_reference(cell_reference&& other) noexcept : cell_(std::exchange(other.cell_, nullptr)) {}
  cell_reference& operator=(cell_reference other) noexcept {
    std::swap(cell_, other.cell_);
    return *this;
  }
  ~cell_reference() {
    if (cell_ == nullptr || cell_->memory == nullptr) return;
    if constexpr (Reads) {
      if (--cell_->readers == 0) cell_->drop_value();
    }
    if (--cell_->holders == 0) cell_->destroy();
  }

  [[nodiscard]] cell<T>* operator->() const { return cell_; }
  [[nodiscard]] cell<T>* get() const { return cell_; }
  [[nodiscard]] explicit operator bool() const { return cell_ != nullptr; }

 private:
  void acquire() {
    if (cell_ == nullptr || cell_->memory == nullptr) return;
    ++cell_->holders;
    if constexpr (Reads) ++cell_->readers;
  }

  cell<T>* cell_ = nullptr;
};

/// Work beside a device's queue that reads or adds to a gradient: whoever is about to touch or free that memory ends it first.
struct side_work {
  void* queue = nullptr;
  void (*await)(void* queue, std::size_t mark) = nullptr;
  std::size_t mark = 0;

  void end() {
    if (queue != nullptr) await(std::exchange(queue, nullptr), mark);
  }
};

/// The branch that runs backwards now, if one does: whoever adds to a parameter's gradient after it waits for it.
inline thread_local side_work branch_at_work{};

template <class T>
struct cell {
  T* value = nullptr;
  T* gradient = nullptr;
  std::size_t count = 0;
  memory_source* memory = nullptr;  // of the elements, on their device; null for parameters, which are not counted
  memory_source* home = nullptr;    // of the cell itself, in host memory
  bfloat16* rounded = nullptr;      // a parameter's value as bfloat16, on a device that multiplies so
  void (*copy_bytes)(void* to, void const* from, std::size_t bytes) = nullptr;  // a parameter's device's
  cell_reference<T, true> shares;   // whose value this is, if it is another cell's
  cell* gelu_of = nullptr;          // whose exact GELU this value is, while the node that computed it is recorded
  side_work side;           // what still works on the gradient
  std::uint32_t holders = 0, readers = 0;
  bool owns_value = false;
  bool wants_gradient = false;
  bool spent = false;  // the node that computed it has run backwards
  bool has_gradient = false;  // the gradient holds a sum already: the next contribution is added

  void drop_value() {
    if (owns_value) memory->release(value, count * sizeof(T));
    value = nullptr;
    shares = {};
  }

  void destroy() {
    if (gradient != nullptr) {
      side.end();
      memory->release(gradient, count * sizeof(T));
    }
    memory_source* const own = home;
    this->~cell();
    own->release(this, sizeof(cell));
  }
};

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
