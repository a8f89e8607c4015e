#include "report/html_page.h"

#include "base/error.h"
#include "report/html_text.h"

namespace dsft::report {
namespace {

constexpr const char* kStyleOfAll = R"(
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --text: #1b1f24; --quiet: #5b6470; --rule: #e1e5ea;
  --c0: #2a78d6; --c1: #d9652b; --c2: #16986b; --c3: #c08a00; --c4: #6a52c7; --c5: #d23f4b; --c6: #c2528f; --c7: #5b7a1f; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1c2026; --text: #e7eaee; --quiet: #9aa4b0; --rule: #2e343c;
  --c0: #5aa0ee; --c1: #ec8a55; --c2: #3cbf92; --c3: #dcae3c; --c4: #a594f0; --c5: #ef7079; --c6: #e285ba; --c7: #9cba5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 48px; max-width: 1520px; background: var(--page); color: var(--text); font: 14px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 22px; margin: 0; } h2 { font-size: 16px; margin: 30px 0 10px; } h3 { font-size: 13px; margin: 0; }
pre { margin: 0; font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 22em; overflow-y: auto; }
)";

}  // namespace

std::string write_html(const HtmlPage& page) {
  const std::string title = escape_html(page.title);
  return concat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\">",
      page.read_again_s ? concat("<meta http-equiv=\"refresh\" content=\"", *page.read_again_s, "\">") : std::string(),
      "<title>", title, "</title><style>", kStyleOfAll, page.style, "</style></head><body>\n<h1>", title, "</h1>\n",
      page.body, "</body></html>\n");
}

}  // namespace dsft::report
