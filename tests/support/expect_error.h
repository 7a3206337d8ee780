#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "lutsmith/error.h"

namespace lutsmith {

/// The result is an error of that code whose message holds every one of the texts.
template <class T, class... Texts>
void expect_error(const Result<T>& result, ErrorCode code, const Texts&... texts) {
  ASSERT_FALSE(result.has_value()) << "accepted, though it must be refused";
  EXPECT_EQ(to_string(result.error().code), to_string(code)) << result.error().message;
  for (const std::string& text : {std::string(texts)...}) {
    EXPECT_THAT(result.error().message, testing::HasSubstr(text));
  }
}

}  // namespace lutsmith
