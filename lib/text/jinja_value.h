#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja_text.h"

namespace dsft::text::jinja {

struct Sequence;
struct Mapping;
struct Object;

/// What a name, attribute or item that does not exist evaluates to: prints as "", is false, and any other use of it
/// throws `reason`.
struct Undefined {
  std::shared_ptr<const std::string> reason;
};

struct None {};

/// A value of a template, with Python's meaning. Containers are immutable (as in the peer's sandbox), so values are
/// shared, never copied.
class Value {
 public:
  Value() : content_(None{}) {}
  Value(bool value) : content_(value) {}
  Value(int64_t value) : content_(value) {}
  Value(double value) : content_(value) {}
  Value(Text text) : content_(std::make_shared<const Text>(std::move(text))) {}
  Value(TextPtr text) : content_(std::move(text)) {}
  Value(std::shared_ptr<const Sequence> sequence) : content_(std::move(sequence)) {}
  Value(std::shared_ptr<const Mapping> mapping) : content_(std::move(mapping)) {}
  Value(std::shared_ptr<Object> object) : content_(std::move(object)) {}
  Value(Undefined undefined) : content_(std::move(undefined)) {}
  template <typename T>
  Value(const T*) = delete;

  static Value undefined(std::string reason);
  /// Words of the template itself.
  static Value words(std::string bytes);

  bool is_undefined() const { return std::holds_alternative<Undefined>(content_); }
  bool is_none() const { return std::holds_alternative<None>(content_); }
  const bool* as_bool() const { return std::get_if<bool>(&content_); }
  const int64_t* as_int() const { return std::get_if<int64_t>(&content_); }
  const double* as_float() const { return std::get_if<double>(&content_); }
  const Text* as_text() const;
  const Sequence* as_sequence() const;
  const Mapping* as_mapping() const;
  Object* as_object() const;
  /// An int or a bool as Python's int.
  bool is_integral() const { return as_int() || as_bool(); }
  int64_t integral() const { return as_int() ? *as_int() : static_cast<int64_t>(*as_bool()); }
  bool is_number() const { return is_integral() || as_float(); }
  double number() const { return as_float() ? *as_float() : static_cast<double>(integral()); }

  const TextPtr& text_ptr() const { return std::get<TextPtr>(content_); }
  const std::shared_ptr<Object>& object_ptr() const { return std::get<std::shared_ptr<Object>>(content_); }
  const std::string& undefined_reason() const { return *std::get<Undefined>(content_).reason; }

  /// Python's `is`.
  bool is_same(const Value& other) const;

 private:
  std::variant<None, bool, int64_t, double, Undefined, TextPtr, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Mapping>, std::shared_ptr<Object>>
      content_;
};

/// No list of a template run has more elements, no value nests deeper, and none weighs more; crossing it is a fault.
/// A value's weight is its number of parts, each counted as often as it is reached and 64 bytes of text as one more:
/// it bounds the work of printing and comparing, which sharing ([x, x] of [y, y] ...) would let grow exponentially.
inline constexpr size_t kMaxItems = 200'000;
inline constexpr int kMaxNesting = 128;
inline constexpr size_t kMaxWeight = 1 << 20;

/// The Python types that hold values in order.
enum class SequenceType { kList, kTuple, kRange, kGenerator, kKeys, kValues, kItems, kGroup };

struct Sequence {
  SequenceType type = SequenceType::kList;
  std::vector<Value> items;
  Origin origin;  ///< of its punctuation when printed; is_data for a list of the row
  int nesting = 1;
  size_t weight = 1;
  bool is_hashable = true;      ///< no list and no dict, nor one in it
  mutable size_t consumed = 0;  ///< a generator hands each item out once

  bool is_indexable() const {
    return type == SequenceType::kList || type == SequenceType::kTuple || type == SequenceType::kRange ||
           type == SequenceType::kGroup;
  }
  bool has_length() const { return type != SequenceType::kGenerator; }
};

struct Mapping {
  std::vector<std::pair<Value, Value>> entries;  ///< in insertion order; keys are hashable and distinct
  Origin origin;
  int nesting = 1;
  size_t weight = 1;
  int32_t message = Origin::kNoMessage;  ///< this is messages[message] itself

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  /// Sets or replaces, as dict[key] = value.
  void set(Value key, Value value);
};

/// Arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;

  /// Moves the keyword out into `value`; false and `value` untouched where it is not there.
  bool take(std::string_view name, Value& value);
};

class Interpreter;

/// A value with behaviour: a function, macro, namespace, loop.
struct Object {
  virtual ~Object() = default;
  /// Python's name of its type, for messages.
  virtual std::string type_name() const = 0;
  /// repr(); `depth`: how many objects around this one are being printed.
  virtual std::string representation(int) const { return "<" + type_name() + ">"; }
  /// False where there is no such attribute.
  virtual bool attribute(Interpreter&, std::string_view, Value&) { return false; }
  virtual bool is_callable() const { return true; }
  virtual Value call(Interpreter& interpreter, Arguments arguments);

  int nesting = 0;  ///< of the values that it holds; 0 where the run clears it at its end (Interpreter::watch)
};

std::shared_ptr<Sequence> make_sequence(SequenceType type, std::vector<Value> items);
Value make_list(std::vector<Value> items);
Value make_tuple(std::vector<Value> items);
Value make_generator(std::vector<Value> items);
/// Throws Fault where it has too many entries or nests too deep.
Value make_mapping(Mapping mapping);
/// The nesting of a container that holds `value`; throws Fault past kMaxNesting.
int nesting_around(const Value& value);
size_t weight_of(const Value& value);

/// Python's type name as jinja2 and Python print it in messages ("str", "dict", "NoneType").
std::string type_name(const Value& value);
/// The items that a for loop sees; a generator's are handed out once. Throws Fault for what cannot be iterated.
std::vector<Value> iterate(const Value& value);
bool is_iterable(const Value& value);
bool is_true(const Value& value);
/// len(); throws Fault for what has none.
int64_t length_of(const Value& value);
bool equals(const Value& left, const Value& right);
/// Negative, zero or positive; throws Fault where Python cannot order them. `op` stands in the message.
int compare(const Value& left, const Value& right, std::string_view op);
bool contains(const Value& container, const Value& item);
void require_hashable(const Value& value);

/// str(value) as {{ }} prints it, with origins; a text is returned as it is.
TextPtr to_text(const Value& value);
std::string to_string(const Value& value);
/// repr(value); `depth`: how many objects around it are being printed.
Text represent(const Value& value, int depth = 0);
std::string represent_float(double value);
std::string represent_string(std::string_view text);

}  // namespace dsft::text::jinja
