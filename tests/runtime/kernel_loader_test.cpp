#include "runtime/kernel_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "provider_fixture.h"
#include "stand_in.h"

namespace lutsmith {
namespace {

using testing::HasSubstr;

class KernelLoaderTest : public KernelProviderTest {
 protected:
  KernelLoaderTest() { StandIn::state().module_loads = 0; }
  ~KernelLoaderTest() override { StandIn::state().module_loads_to_refuse = 0; }

  static CurrentContext context(std::uint64_t id = 1) {
    CurrentContext current = CurrentContext::ask(StandIn::driver()).value();
    current.id = id;
    return current;
  }

  std::unique_ptr<KernelProvider> provider_ = provider();
  KernelLoader loader_{*provider_};
};

TEST_F(KernelLoaderTest, RequestIsLoadedOnceForEachContextAndCompiledOnce) {
  const auto first = loader_.get(context(1), request());
  ASSERT_TRUE(first.has_value()) << first.error().message;
  EXPECT_EQ(loader_.get(context(1), request()).value(), *first);
  const auto other = loader_.get(context(2), request());
  ASSERT_TRUE(other.has_value());
  EXPECT_NE(*other, *first);
  EXPECT_EQ(loader_.get(context(1), request()).value(), *first);
  EXPECT_EQ(loader_.get(context(2), request()).value(), *other);
  EXPECT_EQ(StandIn::state().module_loads, 2);
  EXPECT_EQ(script_.compiles, 1);
  EXPECT_EQ(warps_of((*first)->get()->schedule()), 4);
  EXPECT_EQ((*first)->get()->artifact().registers, 99);
}

TEST_F(KernelLoaderTest, DriverIsAskedForTheContextOnceARequestAndForTheDeviceOnceAContext) {
  const auto queries = [] { return StandIn::state().device_queries.load(); };
  const auto contexts = [] { return StandIn::state().context_queries.load(); };
  const int devices_before = queries();
  const int contexts_before = contexts();
  ASSERT_TRUE(loader_.get(CurrentContext::ask(StandIn::driver()).value(), request(1000)).has_value());
  EXPECT_EQ(contexts() - contexts_before, 1) << "of a cold request";
  EXPECT_EQ(queries() - devices_before, 5) << "the device and four of its attributes";
  ASSERT_TRUE(loader_.get(CurrentContext::ask(StandIn::driver()).value(), request(2000)).has_value());
  ASSERT_TRUE(loader_.get(CurrentContext::ask(StandIn::driver()).value(), request(2000)).has_value());
  EXPECT_EQ(contexts() - contexts_before, 3);
  EXPECT_EQ(queries() - devices_before, 5);
}

TEST_F(KernelLoaderTest, IntactKernelThatTheDriverRefusesIsMadeAnewOnceAndThenAnError) {
  ASSERT_TRUE(provider_->compile(request()).has_value());
  StandIn::state().module_loads_to_refuse = 1;
  ASSERT_TRUE(loader_.get(context(), request()).has_value());
  EXPECT_EQ(script_.compiles, 2);
  EXPECT_EQ(provider_->statistics().repairs, 1U);

  StandIn::state().module_loads = 0;
  StandIn::state().module_loads_to_refuse = 1000;
  const auto refused = loader_.get(context(2), request());
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("CUDA_ERROR_NO_BINARY_FOR_GPU"));
  EXPECT_EQ(StandIn::state().module_loads, 1) << "made anew already";
  EXPECT_EQ(script_.compiles, 2);
}

TEST_F(KernelLoaderTest, KernelOfAStrictServiceIsNotMadeAnew) {
  ASSERT_TRUE(provider_->compile(request()).has_value());
  const auto strict = provider(/*with_store=*/true, CompilePolicy::never);
  KernelLoader loader(*strict);
  StandIn::state().module_loads_to_refuse = 1;
  EXPECT_FALSE(loader.get(context(), request()).has_value());
  EXPECT_EQ(stored(), 1) << "and stays where it is";
}

TEST_F(KernelLoaderTest, AnotherGpusKernelIsRefusedBeforeItIsCompiled) {
  Request foreign = request();
  foreign.spec.target = Target::parse("sm_80").value();
  const auto refused = loader_.get(context(), foreign);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(refused.error().message, HasSubstr("sm_80 cannot run on the current GPU, which is sm_90a"));
  EXPECT_EQ(script_.compiles, 0);
}

TEST_F(KernelLoaderTest, AnswerThatIsNotFinalIsLoadedOnceAndStillImprovedByACompile) {
  script_.spilling = 1;
  script_.during = [this] {
    if (script_.compiles == 2) throw std::bad_alloc();  // the second candidate cannot be compiled for now
  };
  const auto spilling = loader_.get(context(), request());
  ASSERT_TRUE(spilling.has_value());
  EXPECT_EQ(loader_.get(context(), request()).value(), *spilling);
  EXPECT_EQ(StandIn::state().module_loads, 1) << "a warm request neither renders nor loads";
  EXPECT_EQ(warps_of(provider_->compile(request())->choice.schedule), 8);
  EXPECT_EQ(warps_of(loader_.get(context(), request()).value()->get()->schedule()), 8);
}

}  // namespace
}  // namespace lutsmith
