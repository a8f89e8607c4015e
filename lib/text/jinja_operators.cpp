#include "text/jinja_operators.h"

#include <algorithm>
#include <cmath>

#include "text/jinja_fault.h"
#include "text/jinja_format.h"
#include "text/jinja_unicode.h"

namespace dsft::text::jinja {

namespace {

[[noreturn]] void fail_operands(const std::string& op, const Value& left, const Value& right) {
  fail_render("unsupported operand type(s) for ", op, ": '", type_name(left), "' and '", type_name(right), "'");
}

int64_t checked(bool overflows, int64_t value) {
  if (overflows) fail_render("an integer leaves 64 bits");
  return value;
}

int64_t floor_divide(int64_t left, int64_t right) {
  if (right == 0) fail_render("integer division or modulo by zero");
  if (right == -1) return checked(left == INT64_MIN, left == INT64_MIN ? 0 : -left);
  const int64_t quotient = left / right;
  return quotient - ((left % right != 0 && (left < 0) != (right < 0)) ? 1 : 0);
}

int64_t floor_modulo(int64_t left, int64_t right) {
  if (right == 0) fail_render("integer division or modulo by zero");
  if (right == -1) return 0;
  const int64_t rest = left % right;
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

double float_modulo(double left, double right) {
  if (right == 0) fail_render("float modulo by zero");
  const double rest = std::fmod(left, right);
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail_render("0.0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value(exponent == 0 ? int64_t{1} : base);
  if (base == -1) return Value(exponent % 2 == 0 ? int64_t{1} : int64_t{-1});
  int64_t result = 1;
  for (int64_t i = 0; i < exponent; ++i) {
    int64_t next = 0;
    const bool overflows = __builtin_mul_overflow(result, base, &next);
    result = checked(overflows, next);
  }
  return Value(result);
}

Value integer_operator(const std::string& op, int64_t left, int64_t right) {
  if (op == "+" || op == "-" || op == "*") {
    int64_t result = 0;
    const bool overflows = op == "+"   ? __builtin_add_overflow(left, right, &result)
                           : op == "-" ? __builtin_sub_overflow(left, right, &result)
                                       : __builtin_mul_overflow(left, right, &result);
    return Value(checked(overflows, result));
  }
  if (op == "//") return Value(floor_divide(left, right));
  if (op == "%") return Value(floor_modulo(left, right));
  if (op == "**") return integer_power(left, right);
  if (right == 0) fail_render("division by zero");
  return Value(static_cast<double>(left) / static_cast<double>(right));
}

Value float_operator(const std::string& op, double left, double right) {
  if (op == "+") return Value(left + right);
  if (op == "-") return Value(left - right);
  if (op == "*") return Value(left * right);
  if (op == "**") {
    if (left == 0 && right < 0) fail_render("0.0 cannot be raised to a negative power");
    if (left < 0 && right != std::floor(right))
      fail_render("a negative number cannot be raised to a fractional power: the result is complex");
    const double power = std::pow(left, right);
    if (std::isinf(power) && std::isfinite(left) && std::isfinite(right)) fail_render("the result of ** is too large");
    return Value(power);
  }
  if (op == "%") return Value(float_modulo(left, right));
  if (right == 0) fail_render("float division by zero");
  if (op == "/") return Value(left / right);
  return Value((left - float_modulo(left, right)) / right);
}

Value repeat(Interpreter& interpreter, const Value& value, int64_t count) {
  const size_t times = count < 0 ? 0 : static_cast<size_t>(count);
  if (const Text* text = value.as_text()) {
    if (text->empty()) return value;
    if (times > kMaxTextBytes / text->size()) fail_render("a repeated string grows past ", kMaxTextBytes >> 20, " MB");
    interpreter.charge(times * text->size() / 256);
    Text result;
    Text doubled = *text;
    for (size_t rest = times; rest > 0; rest /= 2) {
      if (rest % 2 == 1) result.append(doubled);
      if (rest > 1) doubled.append(Text(doubled));
    }
    return Value(std::move(result));
  }
  const Sequence& sequence = *value.as_sequence();
  if (!sequence.items.empty() && times > kMaxItems / sequence.items.size())
    fail_render("a repeated list has more than ", kMaxItems, " elements");
  std::vector<Value> items;
  if (!sequence.items.empty()) {
    interpreter.charge(times * sequence.items.size() / 8);
    for (size_t i = 0; i < times; ++i) items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return sequence.type == SequenceType::kList ? make_list(std::move(items)) : make_tuple(std::move(items));
}

bool is_repeatable(const Value& value) {
  const Sequence* sequence = value.as_sequence();
  return value.as_text() ||
         (sequence && (sequence->type == SequenceType::kList || sequence->type == SequenceType::kTuple ||
                       sequence->type == SequenceType::kGroup));
}

Value add_texts(Interpreter& interpreter, const Text& left, const Text& right) {
  interpreter.charge((left.size() + right.size()) / 256);
  const bool is_markup = left.is_markup || right.is_markup;
  Text result;
  result.append(is_markup && !left.is_markup ? escape_html(left) : left);
  result.append(is_markup && !right.is_markup ? escape_html(right) : right);
  result.is_markup = is_markup;
  return Value(std::move(result));
}

Value add_sequences(Interpreter& interpreter, const Value& left, const Value& right) {
  std::vector<Value> items = left.as_sequence()->items;
  const auto& others = right.as_sequence()->items;
  interpreter.charge((items.size() + others.size()) / 8);
  items.insert(items.end(), others.begin(), others.end());
  return left.as_sequence()->type == SequenceType::kList ? make_list(std::move(items)) : make_tuple(std::move(items));
}

}  // namespace

Text escape_html(const Text& text) {
  Text result;
  result.is_markup = true;
  for (size_t at = 0; at < text.size();) {
    const size_t special = std::min(text.bytes().find_first_of("&<>'\"", at), text.size());
    result.append(text, at, special);
    if (special == text.size()) break;
    const char c = text.bytes()[special];
    const char* escaped = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&#34;" : "&#39;";
    result.append(escaped, text.origin_at(special));
    at = special + 1;
  }
  return result;
}

Value apply_operator(Interpreter& interpreter, const std::string& op, const Value& left, const Value& right) {
  if (op == "%" && left.as_text()) return Value(format_percent(*left.as_text(), right));
  for (const Value* operand : {&left, &right}) {
    if (operand->is_undefined()) fail_render(operand->undefined_reason());
  }
  if (left.is_integral() && right.is_integral()) return integer_operator(op, left.integral(), right.integral());
  if (left.is_number() && right.is_number()) return float_operator(op, left.number(), right.number());
  if (op == "*" && is_repeatable(left) && right.is_integral()) return repeat(interpreter, left, right.integral());
  if (op == "*" && is_repeatable(right) && left.is_integral()) return repeat(interpreter, right, left.integral());
  if (op == "+" && left.as_text() && right.as_text()) return add_texts(interpreter, *left.as_text(), *right.as_text());
  if (op == "+" && left.as_text()) fail_render("can only concatenate str (not \"", type_name(right), "\") to str");
  if (op == "+" && !left.as_text() && !right.as_text() && is_repeatable(left) && is_repeatable(right) &&
      type_name(left) == type_name(right)) {
    return add_sequences(interpreter, left, right);
  }
  fail_operands(op, left, right);
}

Value negate(const Value& value) {
  if (value.is_undefined()) fail_render(value.undefined_reason());
  if (value.is_integral())
    return Value(checked(value.integral() == INT64_MIN, value.integral() == INT64_MIN ? 0 : -value.integral()));
  if (value.as_float()) return Value(-*value.as_float());
  fail_render("bad operand type for unary -: '", type_name(value), "'");
}

Value unary_plus(const Value& value) {
  if (value.is_undefined()) fail_render(value.undefined_reason());
  if (value.is_integral()) return Value(value.integral());
  if (value.as_float()) return value;
  fail_render("bad operand type for unary +: '", type_name(value), "'");
}

namespace {

int64_t bound_of(const Value& value, int64_t otherwise, int64_t length, int64_t lowest, int64_t highest) {
  if (value.is_none()) return otherwise;
  if (!value.is_integral()) fail_render("slice indices must be integers or None, not ", type_name(value));
  const int64_t index = value.integral() < 0 ? value.integral() + length : value.integral();
  return std::clamp(index, lowest, highest);
}

}  // namespace

Value slice_of(const Value& value, const Value& start, const Value& stop, const Value& step) {
  if (!step.is_none() && !step.is_integral())
    fail_render("slice indices must be integers or None, not ", type_name(step));
  const int64_t stride = step.is_none() ? 1 : step.integral();
  if (stride == 0) fail_render("slice step cannot be zero");
  const Text* text = value.as_text();
  const std::vector<Character> characters = text ? characters_of(text->bytes()) : std::vector<Character>{};
  const int64_t length = text ? static_cast<int64_t>(characters.size()) : length_of(value);
  const bool is_forward = stride > 0;
  const int64_t lowest = is_forward ? 0 : -1;
  const int64_t highest = is_forward ? length : length - 1;
  const int64_t begin = bound_of(start, is_forward ? 0 : highest, length, lowest, highest);
  const int64_t end = bound_of(stop, is_forward ? length : -1, length, lowest, highest);
  if (text && stride == 1) {
    if (begin >= end) return Value(Text());
    return Value(
        text->slice(characters[static_cast<size_t>(begin)].begin, characters[static_cast<size_t>(end - 1)].end));
  }
  Text part;
  std::vector<Value> items;
  const int64_t safe_stride = std::clamp<int64_t>(stride, -length - 1, length + 1);
  for (int64_t i = begin; is_forward ? i < end : i > end; i += safe_stride) {
    if (text) {
      part.append(*text, characters[static_cast<size_t>(i)].begin, characters[static_cast<size_t>(i)].end);
    } else {
      items.push_back(value.as_sequence()->items[static_cast<size_t>(i)]);
    }
  }
  if (text) return Value(std::move(part));
  const SequenceType type = value.as_sequence()->type;
  auto result = make_sequence(type == SequenceType::kGroup ? SequenceType::kTuple : type, std::move(items));
  result->origin = value.as_sequence()->origin;
  return Value(std::shared_ptr<const Sequence>(std::move(result)));
}

}  // namespace dsft::text::jinja
