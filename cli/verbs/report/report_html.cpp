#include "cli/verbs/report/report_html.h"

#include <algorithm>
#include <array>
#include <functional>
#include <string_view>
#include <vector>

#include "cli/verbs/report/page_files.h"

namespace lutsmith::cli {
namespace {

std::string_view page_file(std::string_view name) {
  return std::ranges::find(page_files(), name, &EmbeddedFile::name)->text;
}

std::string html_text(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

/// JSON in which no text ends the script element it stands in, or begins a comment there.
std::string script_json(const Json& json) {
  std::string escaped;
  for (const char c : json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace)) {
    if (c == '<') {
      escaped += "\\u003c";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

/// Without the line that names a source map, which is not there and which debuggers would ask for.
std::string_view without_source_map(std::string_view script) {
  return script.substr(0, script.rfind("//# sourceMappingURL="));
}

/// A script element for each of Vega's modules, named so that others can ask for it.
std::string vega_scripts() {
  std::string html = "<script>\n" + std::string(page_file("modules.js")) + "</script>\n<!--\n" +
                     std::string(page_file("vega_license.txt")) + "-->\n";
  constexpr std::string_view kEnd = ".min.js";
  for (const EmbeddedFile& file : page_files()) {
    if (!file.name.ends_with(kEnd)) continue;
    html += "<script data-module=\"";
    html += file.name.substr(0, file.name.size() - kEnd.size());
    html += "\">";
    html += without_source_map(file.text);
    html += "</script>\n";
  }
  return html;
}

/// What one kind of page has to itself.
struct Page {
  std::string title;
  std::string_view body;                  ///< a file: the main part
  std::vector<std::string_view> scripts;  ///< files, behind those that all pages have
};

std::string own_scripts(const Page& page) {
  std::string script;
  for (const std::string_view name : {"document.js", "charts.js", "table.js"}) script += page_file(name);
  for (const std::string_view name : page.scripts) script += page_file(name);
  return script;
}

std::string tuned_title(const Json& report) {
  std::string names;
  for (const Json& gpu : report["gpus"]) {
    names += (names.empty() ? "" : ", ") + gpu["name"].get<std::string>();
  }
  return "Tuned choices for " + names;
}

std::string page_html(const Page& page, const Json& report) {
  struct Part {
    std::string_view name;
    std::function<std::string()> text;
  };
  const std::array parts{
      Part{"{{title}}", [&] { return html_text(page.title); }},
      Part{"{{style}}", [] { return std::string(page_file("style.css")); }},
      Part{"{{body}}", [&] { return std::string(page_file(page.body)); }},
      Part{"{{data}}", [&] { return script_json(report); }},
      Part{"{{vega}}", vega_scripts},
      Part{"{{script}}", [&] { return own_scripts(page); }},
  };
  // In the page's order, so that what was put in is never looked at again.
  std::string_view rest = page_file("page.html");
  std::string html;
  for (const Part& part : parts) {
    const std::size_t place = rest.find(part.name);
    html += rest.substr(0, place);
    html += part.text();
    rest.remove_prefix(place + part.name.size());
  }
  html += rest;
  return html;
}

}  // namespace

std::string report_html(const Json& report) {
  return page_html({.title = tuned_title(report), .body = "report.html", .scripts = {"report.js"}}, report);
}

std::string bench_html(const Json& report) {
  return page_html({.title = "Time over tokens on " + report["gpu"]["name"].get<std::string>(),
                    .body = "bench.html",
                    .scripts = {"bench_charts.js", "bench.js"}},
                   report);
}

}  // namespace lutsmith::cli
