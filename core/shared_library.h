#pragma once

#include <dlfcn.h>

#include <initializer_list>
#include <string>

#include "lutsmith/error.h"

namespace lutsmith::core {

/// A library that is opened at run time, so that programs start on machines without it. Stays open until
/// the process ends: code of it may still run on threads of its own.
class SharedLibrary {
 public:
  /// The first of `names` that opens. `purpose` ends the sentence "LIBRARY is needed to PURPOSE" of the
  /// error (not_found), `package` names what brings it.
  static Result<SharedLibrary> open(std::initializer_list<const char*> names, const std::string& purpose,
                                    const std::string& package);

  /// Sets `entry` to the function `symbol`, or to null and remembers it as missing.
  template <class Function>
  void load(const char* symbol, Function*& entry) {
    entry = reinterpret_cast<Function*>(dlsym(handle_, symbol));
    if (entry == nullptr && missing_ == nullptr) missing_ = symbol;
  }

  /// Error (unsupported) where a `load` found nothing.
  Result<void> complete() const;

 private:
  SharedLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}

  void* handle_;
  std::string name_;
  const char* missing_ = nullptr;
};

}  // namespace lutsmith::core
