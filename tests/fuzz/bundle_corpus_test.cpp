#include <gtest/gtest.h>

#include "replay.h"

namespace lutsmith::fuzz {
namespace {

TEST(BundleCorpus, KeptInputsPass) { replay_folder(CORPUS "/bundle"); }
TEST(BundleCorpus, SeedsPass) { replay_seeds(bundle_seeds()); }

}  // namespace
}  // namespace lutsmith::fuzz
