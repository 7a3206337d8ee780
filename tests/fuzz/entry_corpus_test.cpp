#include <gtest/gtest.h>

#include "replay.h"

namespace lutsmith::fuzz {
namespace {

TEST(EntryCorpus, KeptInputsPass) { replay_folder(CORPUS "/entry"); }
TEST(EntryCorpus, SeedsPass) { replay_seeds(entry_seeds()); }

}  // namespace
}  // namespace lutsmith::fuzz
