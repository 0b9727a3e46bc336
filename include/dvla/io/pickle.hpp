// A Python pickle as plain data. Nothing is imported, called or built: a call stays a value that names the function and
// its arguments, and a function outside the caller's list is refused where it is named.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/io/zip.hpp>

namespace dvla::inline DVLA_ABI {

/// A value by its place in pickle_graph::values.
using pickle_id = std::uint32_t;

enum class pickle_kind : std::uint8_t { none, boolean, integer, real, text, list, tuple, dict, set, global, call, persistent };

/// One Python value. Which members mean something depends on the kind.
struct pickle_value {
  pickle_kind kind = pickle_kind::none;
  std::int64_t integer = 0;      ///< integer; boolean as 0 or 1
  double real = 0;               ///< real
  std::string text;              ///< text and bytes; a global's "module.name"
  std::vector<pickle_id> items;  ///< list, tuple, set; dict and call: keys and values in turn
  pickle_id callee = 0;          ///< call: the global that Python would call
  pickle_id arguments = 0;       ///< call: the tuple it would get; persistent: its identifier
  pickle_id state = 0;           ///< call: what Python would give to __setstate__; 0 where nothing
};

/// All values of a pickle; value 0 is None. Values may be shared, and a list may even contain itself.
struct pickle_graph {
  std::vector<pickle_value> values;
  pickle_id root = 0;

  [[nodiscard]] pickle_value const& operator[](pickle_id id) const { return values[id]; }
};

namespace detail {

/// The stack machine of the pickle format, protocols 2 to 5. Every opcode makes at most one value, so memory stays
/// proportional to the size of the pickle.
class pickle_machine {
 public:
  pickle_machine(std::string const& source, std::span<std::byte const> bytes,
                 void (*check_global)(std::string const&, std::string_view))
      : source_(&source), in_(source, bytes), check_global_(check_global) {
    graph_.values.emplace_back();
  }

  [[nodiscard]] pickle_graph run() && {
    while (auto const opcode = take<std::uint8_t>()) {
      if (opcode == '.') {
        expect(!stack_.empty(), *source_, ": the pickle ends without a value");
        graph_.root = pop();
        return std::move(graph_);
      }
      if (!constant(opcode) && !container(opcode) && !structure(opcode))
        fail(*source_, ": the pickle has the opcode ", opcode, " at byte ", place_ - 1,
             ", which no saved tensor needs; it is damaged");
    }
    fail(*source_, ": the pickle has the opcode 0; it is damaged");
  }

 private:
  // Names of opcodes as in Python's pickletools, in the order of its cases.

  /// NONE NEWTRUE NEWFALSE, BININT1 BININT2 BININT LONG1, BINFLOAT, then texts and bytes with lengths of 4, 1 and 8 bytes:
  /// BINUNICODE BINBYTES BINSTRING, SHORT_BINUNICODE SHORT_BINBYTES SHORT_BINSTRING, BINUNICODE8 BINBYTES8.
  bool constant(std::uint8_t opcode) {
    switch (opcode) {
      case 'N':
        return push_shared(0);
      case 0x88:
        return push_integer(pickle_kind::boolean, 1);
      case 0x89:
        return push_integer(pickle_kind::boolean, 0);
      case 'K':
        return push_integer(pickle_kind::integer, take<std::uint8_t>());
      case 'M':
        return push_integer(pickle_kind::integer, take<std::uint16_t>());
      case 'J':
        return push_integer(pickle_kind::integer, take<std::int32_t>());
      case 0x8a:
        return push_integer(pickle_kind::integer, take_long());
      case 'G':
        return push_real(take<std::uint64_t>());
      case 'X':
      case 'B':
      case 'T':
        return push_text(take<std::uint32_t>());
      case 0x8c:
      case 'C':
      case 'U':
        return push_text(take<std::uint8_t>());
      case 0x8d:
      case 0x8e:
        return push_text(take<std::uint64_t>());
      default:
        return false;
    }
  }

  /// EMPTY_DICT EMPTY_LIST EMPTY_TUPLE EMPTY_SET, MARK, TUPLE TUPLE1 TUPLE2 TUPLE3, APPEND APPENDS ADDITEMS SETITEM SETITEMS.
  bool container(std::uint8_t opcode) {
    switch (opcode) {
      case '}':
        return push_empty(pickle_kind::dict);
      case ']':
        return push_empty(pickle_kind::list);
      case ')':
        return push_empty(pickle_kind::tuple);
      case 0x8f:
        return push_empty(pickle_kind::set);
      case '(':
        return set_mark();
      case 't':
        return push_tuple(pop_to_mark());
      case 0x85:
        return push_tuple(pop_many(1));
      case 0x86:
        return push_tuple(pop_many(2));
      case 0x87:
        return push_tuple(pop_many(3));
      case 'a':
        return extend(pop_many(1), {pickle_kind::list}, 1);
      case 'e':
        return extend(pop_to_mark(), {pickle_kind::list}, 1);
      case 0x90:
        return extend(pop_to_mark(), {pickle_kind::set}, 1);
      case 's':
        return extend(pop_many(2), {pickle_kind::dict, pickle_kind::call}, 2);
      case 'u':
        return extend(pop_to_mark(), {pickle_kind::dict, pickle_kind::call}, 2);
      default:
        return false;
    }
  }

  /// PROTO FRAME, BINPUT LONG_BINPUT MEMOIZE, BINGET LONG_BINGET, GLOBAL STACK_GLOBAL, REDUCE NEWOBJ, BUILD, BINPERSID.
  bool structure(std::uint8_t opcode) {
    switch (opcode) {
      case 0x80:
        return check_protocol(take<std::uint8_t>());
      case 0x95:
        return skip_frame_size();
      case 'q':
        return remember(take<std::uint8_t>());
      case 'r':
        return remember(take<std::uint32_t>());
      case 0x94:
        return remember(static_cast<std::uint32_t>(memo_.size()));
      case 'h':
        return recall(take<std::uint8_t>());
      case 'j':
        return recall(take<std::uint32_t>());
      case 'c':
        return push_global_from_lines();
      case 0x93:
        return push_global_from_stack();
      case 'R':
      case 0x81:
        return push_call();
      case 'b':
        return set_state();
      case 'Q':
        return push_persistent();
      default:
        return false;
    }
  }

  template <class T>
  [[nodiscard]] T take() {
    T const value = in_.number<T>(place_);
    place_ += sizeof(T);
    return value;
  }

  [[nodiscard]] std::string_view take_text(std::uint64_t size) {
    std::string_view const text = in_.text(place_, size);
    place_ += size;
    return text;
  }

  [[nodiscard]] std::string_view take_line() {
    std::uint64_t const begin = place_;
    while (take<char>() != '\n') {
    }
    return in_.text(begin, place_ - 1 - begin);
  }

  /// An integer of 0 to 8 bytes, two's complement.
  [[nodiscard]] std::int64_t take_long() {
    std::size_t const size = take<std::uint8_t>();
    expect(size <= 8, *source_, ": the pickle holds an integer of ", size, " bytes; at most 8 are read");
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < size; ++i) bits |= std::uint64_t{take<std::uint8_t>()} << (8 * i);
    if (size == 0 || size == 8) return static_cast<std::int64_t>(bits);
    std::uint64_t const sign = std::uint64_t{1} << (8 * size - 1);
    return static_cast<std::int64_t>((bits ^ sign) - sign);
  }

  bool push_shared(pickle_id id) {
    stack_.push_back(id);
    return true;
  }

  pickle_value& push(pickle_kind kind) {
    expect(graph_.values.size() < 0xffffffffu, *source_, ": the pickle holds too many values");
    stack_.push_back(static_cast<pickle_id>(graph_.values.size()));
    pickle_value& value = graph_.values.emplace_back();
    value.kind = kind;
    return value;
  }

  bool push_integer(pickle_kind kind, std::int64_t integer) {
    push(kind).integer = integer;
    return true;
  }

  bool push_real(std::uint64_t big_endian) {
    push(pickle_kind::real).real = std::bit_cast<double>(__builtin_bswap64(big_endian));
    return true;
  }

  bool push_empty(pickle_kind kind) {
    push(kind);
    return true;
  }

  bool push_text(std::uint64_t size) {
    std::string_view const text = take_text(size);
    push(pickle_kind::text).text = text;
    return true;
  }

  bool push_tuple(std::vector<pickle_id> items) {
    push(pickle_kind::tuple).items = std::move(items);
    return true;
  }

  bool push_global(std::string_view module, std::string_view name) {
    std::string full = concat(module, ".", name);
    check_global_(*source_, full);
    push(pickle_kind::global).text = std::move(full);
    return true;
  }

  bool push_global_from_lines() {
    std::string_view const module = take_line();
    return push_global(module, take_line());
  }

  bool push_global_from_stack() {
    auto const parts = pop_many(2);
    std::string const module = graph_[parts[0]].text;
    std::string const name = graph_[parts[1]].text;
    return push_global(module, name);
  }

  bool push_call() {
    auto const parts = pop_many(2);
    expect(graph_[parts[0]].kind == pickle_kind::global && graph_[parts[1]].kind == pickle_kind::tuple, *source_,
           ": the pickle calls something that is no named function; it is damaged");
    pickle_value& call = push(pickle_kind::call);
    call.callee = parts[0];
    call.arguments = parts[1];
    return true;
  }

  bool push_persistent() {
    pickle_id const identifier = pop();
    push(pickle_kind::persistent).arguments = identifier;
    return true;
  }

  bool set_state() {
    pickle_id const state = pop();
    graph_.values[top()].state = state;
    return true;
  }

  bool check_protocol(unsigned protocol) const {
    expect(protocol >= 2 && protocol <= 5, *source_, ": the pickle has protocol ", protocol, "; 2 to 5 are read");
    return true;
  }

  bool skip_frame_size() {
    place_ += 8;
    return true;
  }

  bool set_mark() {
    marks_.push_back(stack_.size());
    return true;
  }

  bool remember(std::uint32_t key) {
    memo_[key] = top();
    return true;
  }

  bool recall(std::uint32_t key) {
    auto const found = memo_.find(key);
    expect(found != memo_.end(), *source_, ": the pickle refers to a value it has not stored; it is damaged");
    return push_shared(found->second);
  }

  /// Appends to the container on top of the stack, which must be of one of these kinds.
  bool extend(std::vector<pickle_id> const& items, std::initializer_list<pickle_kind> kinds, std::size_t group) {
    pickle_value& target = graph_.values[top()];
    bool accepted = false;
    for (pickle_kind const kind : kinds) accepted |= target.kind == kind;
    expect(accepted && items.size() % group == 0, *source_, ": the pickle adds items to a value that takes none; it is damaged");
    target.items.insert(target.items.end(), items.begin(), items.end());
    return true;
  }

  /// Height of the stack above the innermost mark: what lies under a mark cannot be popped.
  [[nodiscard]] std::size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }

  [[nodiscard]] std::vector<pickle_id> pop_many(std::size_t count) {
    expect(available() >= count, *source_, ": the pickle takes a value from an empty stack; it is damaged");
    std::vector<pickle_id> const items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }

  [[nodiscard]] std::vector<pickle_id> pop_to_mark() {
    expect(!marks_.empty(), *source_, ": the pickle lacks a mark; it is damaged");
    auto items = pop_many(available());
    marks_.pop_back();
    return items;
  }

  pickle_id pop() { return pop_many(1).front(); }

  [[nodiscard]] pickle_id top() const {
    expect(available() >= 1, *source_, ": the pickle looks at an empty stack; it is damaged");
    return stack_.back();
  }

  std::string const* source_;
  little_endian_reader in_;
  void (*check_global_)(std::string const& source, std::string_view name);
  std::uint64_t place_ = 0;
  pickle_graph graph_;
  std::vector<pickle_id> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, pickle_id> memo_;
};

}  // namespace detail

/// Reads a pickle. check_global(source, "module.name") is called for every global that the pickle names and throws for
/// those that are not wanted. Throws for a truncated or damaged pickle.
[[nodiscard]] inline pickle_graph parse_pickle(std::string const& source, std::span<std::byte const> bytes,
                                               void (*check_global)(std::string const& source, std::string_view name)) {
  return detail::pickle_machine(source, bytes, check_global).run();
}

}  // namespace dvla::inline DVLA_ABI
