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
  /// One library, by its path or by a name that the loader looks for. The error (not_found) is what the
  /// loader says.
  static Result<SharedLibrary> open(const std::string& name);

  /// The first of `names` that opens. `purpose` ends the sentence "LIBRARY is needed to PURPOSE" of the
  /// error (not_found), `package` names what brings it.
  static Result<SharedLibrary> open(std::initializer_list<const char*> names, const std::string& purpose,
                                    const std::string& package);

  /// Sets `entry` to the function `symbol`, or to null and remembers it as missing.
  template <class Function>
  void load(const char* symbol, Function*& entry) {
    load_optional(symbol, entry);
    if (entry == nullptr && missing_ == nullptr) missing_ = symbol;
  }

  /// The same for a function that callers can do without.
  template <class Function>
  void load_optional(const char* symbol, Function*& entry) const {
    entry = reinterpret_cast<Function*>(dlsym(handle_, symbol));
  }

  /// The first function that a `load` did not find; null where all are there.
  const char* missing() const { return missing_; }

  /// Error (unsupported) where a `load` found nothing.
  Result<void> complete() const;

  /// What dlopen returned.
  void* handle() const { return handle_; }

 private:
  SharedLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}

  void* handle_;
  std::string name_;
  const char* missing_ = nullptr;
};

}  // namespace lutsmith::core
