#include "checkpoint/safetensors_header.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "checkpoint/safetensors_format.h"

namespace lutsmith::checkpoint {
namespace {

using Json = nlohmann::json;

constexpr int kMaxIgnoredDepth = 100;

/// Follows the parser's events through the few places that a header has. Anything out of place ends
/// the parse at once, so nothing nests deeper than the format does but the value of an unknown field, which
/// is passed over; a tree of the text is never built.
///
///   before -> header -> tensor -> shape | offsets
///                    -> metadata
class HeaderEvents : public nlohmann::json_sax<Json> {
 public:
  SafetensorsHeader header;
  std::string reason;  // of the failure

  bool null() override {
    // The format's own library takes it for no metadata.
    return ignored() || (place_ == Place::header && name_ == kMetadataKey) || misplaced("null");
  }
  bool boolean(bool /*value*/) override { return ignored() || misplaced("a truth value"); }
  bool number_float(number_float_t /*value*/, const string_t& text) override {
    return ignored() || misplaced("the number " + shown_name(text));
  }
  bool number_integer(number_integer_t value) override {
    return ignored() || misplaced(fmt::format("the number {}", value));
  }
  bool binary(binary_t& /*value*/) override { return misplaced("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (ignored()) return true;
    if (place_ != Place::shape && place_ != Place::offsets)
      return misplaced(fmt::format("the number {}", value));
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
      return fail(fmt::format("{}: {} of {} is too large", where(), value, field_));
    }
    std::vector<std::int64_t>& numbers = place_ == Place::shape ? tensor_->shape : tensor_->offsets;
    const std::size_t allowed = place_ == Place::shape ? kMaxDimensions : 2;
    if (numbers.size() == allowed) {
      return fail(fmt::format("{}: {} has more than {} numbers", where(), field_, allowed));
    }
    numbers.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (ignored()) return true;
    if (place_ == Place::metadata) {
      header.metadata[field_] = std::move(value);
      return true;
    }
    if (place_ != Place::tensor || field_ != "dtype") return misplaced("the text " + shown_name(value));
    tensor_->dtype = std::move(value);
    return true;
  }

  bool start_object(std::size_t /*size*/) override {
    if (ignored()) return nest(1);
    switch (place_) {
      case Place::before:
        place_ = Place::header;
        return true;
      case Place::header:
        place_ = name_ == kMetadataKey ? Place::metadata : Place::tensor;
        seen_ = {};
        return true;
      default:
        return misplaced("an object");
    }
  }

  bool key(string_t& name) override {
    if (ignored_depth_ > 0) return true;
    if (place_ == Place::header) return start_member(std::move(name));
    field_ = std::move(name);
    if (place_ == Place::metadata) {
      return header.metadata.try_emplace(field_).second ||
             fail(where() + " has " + shown_name(field_) + " twice");
    }
    bool* const seen = seen_field();
    if (seen == nullptr) return true;
    return !std::exchange(*seen, true) || fail(where() + " has " + field_ + " twice");
  }

  bool end_object() override {
    if (ignored_depth_ > 0) return nest(-1);
    if (place_ == Place::tensor) {
      if (!seen_.dtype || !seen_.shape || !seen_.offsets) {
        return fail(where() + " lacks one of dtype, shape, data_offsets");
      }
      if (tensor_->offsets.size() != 2) return fail(where() + ": data_offsets has fewer than 2 numbers");
    }
    place_ = Place::header;
    return true;
  }

  bool start_array(std::size_t /*size*/) override {
    if (ignored()) return nest(1);
    if (place_ != Place::tensor || field_ == "dtype") return misplaced("a list");
    place_ = field_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }

  bool end_array() override {
    if (ignored_depth_ > 0) return nest(-1);
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const Json::exception& /*error*/) override {
    return fail(fmt::format("header is not valid JSON at byte {}", position));
  }

 private:
  enum class Place { before, header, tensor, metadata, shape, offsets };
  struct Seen {
    bool dtype = false;
    bool shape = false;
    bool offsets = false;
  };

  bool start_member(std::string name) {
    name_ = std::move(name);
    if (name_ == kMetadataKey) {
      return !std::exchange(metadata_seen_, true) || fail("header has __metadata__ twice");
    }
    const auto [position, is_new] = header.tensors.try_emplace(name_);
    tensor_ = &position->second;
    return is_new || fail("header has the tensor " + shown_name(name_) + " twice");
  }

  bool* seen_field() {
    if (field_ == "dtype") return &seen_.dtype;
    if (field_ == "shape") return &seen_.shape;
    return field_ == "data_offsets" ? &seen_.offsets : nullptr;
  }

  /// Whether this is the value of a field of a tensor that the format does not know, or a part of one. The
  /// format's own library passes over such fields.
  [[nodiscard]] bool ignored() { return place_ == Place::tensor && seen_field() == nullptr; }

  bool nest(int levels) {
    ignored_depth_ += levels;
    return ignored_depth_ <= kMaxIgnoredDepth ||
           fail(fmt::format("{}, {}: nests deeper than {} levels", where(), shown_name(field_),
                            kMaxIgnoredDepth));
  }

  [[nodiscard]] std::string where() const {
    if (place_ == Place::before) return "header";
    return name_ == kMetadataKey ? name_ : "tensor " + shown_name(name_);
  }

  [[nodiscard]] std::string expected() const {
    switch (place_) {
      case Place::before:
        return "an object of tensors";
      case Place::header:
        return name_ == kMetadataKey ? "an object of texts" : "an object with dtype, shape, data_offsets";
      case Place::metadata:
        return "text";
      case Place::tensor:
        return field_ == "dtype" ? "text" : "a list of whole numbers";
      default:
        return "whole numbers from 0";
    }
  }

  bool misplaced(std::string_view found) {
    const bool in_field = place_ != Place::before && place_ != Place::header;
    return fail(fmt::format("{}{}{}: found {}, expected {}", where(), in_field ? ", " : "",
                            in_field ? shown_name(field_) : "", found, expected()));
  }

  bool fail(std::string why) {
    reason = std::move(why);
    return false;
  }

  Place place_ = Place::before;
  std::string name_;   // of the member of the header
  std::string field_;  // of that member
  HeaderEntry* tensor_ = nullptr;
  Seen seen_;
  bool metadata_seen_ = false;
  int ignored_depth_ = 0;  // of objects and lists inside a field that is passed over
};

}  // namespace

std::expected<SafetensorsHeader, std::string> parse_safetensors_header(std::string_view text) {
  if (!text.starts_with('{')) return std::unexpected("header does not begin with '{'");
  // The JSON lexer takes a null character for the end of the text.
  if (const std::size_t null = text.find('\0'); null != std::string_view::npos) {
    return std::unexpected(fmt::format("header has a null character at byte {}", null));
  }
  HeaderEvents events;
  if (!Json::sax_parse(text.begin(), text.end(), &events)) return std::unexpected(events.reason);
  return std::move(events.header);
}

}  // namespace lutsmith::checkpoint
