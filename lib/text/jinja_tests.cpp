#include "text/jinja_tests.h"

#include <map>

#include "text/jinja_fault.h"
#include "text/jinja_filters.h"
#include "text/jinja_objects.h"
#include "text/jinja_operators.h"
#include "text/jinja_string_operations.h"

namespace dsft::text::jinja {

namespace {

Value argument(const char* test, Arguments arguments) {
  const Bound bound(test, std::move(arguments), {"other"}, 1);
  return bound[0];
}

bool is_sequence(const Value& value) {
  const Sequence* sequence = value.as_sequence();
  return value.is_undefined() || value.as_text() || value.as_mapping() || (sequence && sequence->is_indexable());
}

template <int Remainder>
bool has_remainder(Interpreter& interpreter, const Value& value, Arguments) {
  return equals(apply_operator(interpreter, "%", value, Value(int64_t{2})), Value(int64_t{Remainder}));
}

const std::map<std::string_view, Test>& tests() {
  using I = Interpreter;
  using V = Value;
  using A = Arguments;
  static const Test equal{[](I&, const V& v, A a) { return equals(v, argument("eq", std::move(a))); }};
  static const Test unequal{[](I&, const V& v, A a) { return !equals(v, argument("ne", std::move(a))); }};
  static const Test greater{[](I&, const V& v, A a) { return compare(v, argument("gt", std::move(a)), ">") > 0; }};
  static const Test at_least{[](I&, const V& v, A a) { return compare(v, argument("ge", std::move(a)), ">=") >= 0; }};
  static const Test less{[](I&, const V& v, A a) { return compare(v, argument("lt", std::move(a)), "<") < 0; }};
  static const Test at_most{[](I&, const V& v, A a) { return compare(v, argument("le", std::move(a)), "<=") <= 0; }};
  static const std::map<std::string_view, Test> table = {
      {"defined", {[](I&, const V& v, A) { return !v.is_undefined(); }}},
      {"undefined", {[](I&, const V& v, A) { return v.is_undefined(); }}},
      {"none", {[](I&, const V& v, A) { return v.is_none(); }}},
      {"boolean", {[](I&, const V& v, A) { return v.as_bool() != nullptr; }}},
      {"true", {[](I&, const V& v, A) { return v.as_bool() && *v.as_bool(); }}},
      {"false", {[](I&, const V& v, A) { return v.as_bool() && !*v.as_bool(); }}},
      {"integer", {[](I&, const V& v, A) { return v.as_int() != nullptr; }}},
      {"float", {[](I&, const V& v, A) { return v.as_float() != nullptr; }}},
      {"number", {[](I&, const V& v, A) { return v.is_number(); }}},
      {"string", {[](I&, const V& v, A) { return v.as_text() != nullptr; }}},
      {"mapping", {[](I&, const V& v, A) { return v.as_mapping() != nullptr; }}},
      {"sequence", {[](I&, const V& v, A) { return is_sequence(v); }}},
      {"iterable", {[](I&, const V& v, A) { return is_iterable(v); }}},
      {"callable",
       {[](I&, const V& v, A) { return v.is_undefined() || (v.as_object() && v.as_object()->is_callable()); }}},
      {"odd", {has_remainder<1>}},
      {"even", {has_remainder<0>}},
      {"divisibleby", {[](I& i, const V& v, A a) {
         return equals(apply_operator(i, "%", v, argument("divisibleby", std::move(a))), Value(int64_t{0}));
       }}},
      {"lower", {[](I&, const V& v, A) { return is_all_lower(*to_text(v)); }}},
      {"upper", {[](I&, const V& v, A) { return is_all_upper(*to_text(v)); }}},
      {"escaped", {[](I&, const V& v, A) { return v.as_text() && v.as_text()->is_markup; }}},
      {"sameas", {[](I&, const V& v, A a) { return v.is_same(argument("sameas", std::move(a))); }}},
      {"in", {[](I&, const V& v, A a) { return contains(argument("in", std::move(a)), v); }}},
      {"filter", {[](I&, const V& v, A) { return v.as_text() && find_filter(v.as_text()->bytes()); }}},
      {"test", {[](I&, const V& v, A) { return v.as_text() && find_test(v.as_text()->bytes()); }}},
      {"==", equal},
      {"eq", equal},
      {"equalto", equal},
      {"!=", unequal},
      {"ne", unequal},
      {">", greater},
      {"gt", greater},
      {"greaterthan", greater},
      {">=", at_least},
      {"ge", at_least},
      {"<", less},
      {"lt", less},
      {"lessthan", less},
      {"<=", at_most},
      {"le", at_most},
  };
  return table;
}

}  // namespace

const Test* find_test(const std::string& name) {
  const auto it = tests().find(name);
  return it == tests().end() ? nullptr : &it->second;
}

}  // namespace dsft::text::jinja
