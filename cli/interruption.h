#pragma once

namespace lutsmith::cli {

/// From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT end the program only after what lies half-done was removed
/// (core/scratch.h), as the signal itself would have ended it; a second one ends it at once. A signal that is
/// ignored already, as `nohup` and background jobs of a shell have it, stays ignored. SIGXFSZ is ignored, so
/// that a file beyond `ulimit -f` is an error of the write, and SIGCHLD is not, so that how a compiler ended
/// is learned whatever the caller left. To be called before any thread starts.
void clean_up_when_interrupted();

}  // namespace lutsmith::cli
