#include <cstdint>
#include <cstring>

#include "cache/entry.h"
#include "cache/key.h"
#include "must.h"
#include "numbers.h"
#include "runtime/manifest.h"
#include "seeds.h"
#include "synthetic_cubin.h"

namespace lutsmith::fuzz {
namespace {

using test::must;

constexpr std::size_t kStartBytes = 8 + 4;  // magic and version
constexpr std::size_t kDigestBytes = 32;

Bytes input(char kind, std::span<const std::byte> rest) { return joined({bytes_of({&kind, 1}), rest}); }

template <class Number>
Bytes with_number(Bytes bytes, std::size_t offset, Number number) {
  std::memcpy(bytes.data() + offset, &number, sizeof(number));
  return bytes;
}

/// The manifest of a kernel whose source can be rendered again.
std::string manifest_of(const KernelSpec& spec, const FewTokensSchedule& schedule) {
  const Source source = must(render(spec, schedule));
  const Provenance provenance{
      .compiler = "nvrtc 13.0", .options = "-fast\n", .source_bytes = source.text.size()};
  const cache::Key key = cache::Key::of({.source = source.text,
                                         .options = provenance.options,
                                         .compiler = provenance.compiler,
                                         .target = spec.target.name()});
  const Artifact artifact{.key = key.hex(), .kernel_name = "kernel", .launch = {}, .cubin = {}};
  return write_manifest(spec, schedule, artifact, provenance);
}

std::string scalar_manifest() {
  return manifest_of({.format = {.n = 4096, .k = 4096}, .m = 1, .target = *Target::parse("sm_90a")}, {});
}

std::string bulk_manifest() {
  return manifest_of(
      {.format = {.bits = 2, .group = 64, .n = 64, .k = 64}, .m = 1, .target = *Target::parse("sm_90a")},
      {.tile_tokens = 16, .warps = 4, .weights = WeightPath::bulk_copy, .dependent_launch = true});
}

Target other_target() { return must(Target::parse("sm_80")); }

std::string pair_manifest() {
  return manifest_of({.format = {.bits = 3,
                                 .group = kPerChannel,
                                 .n = 1000,
                                 .k = 1032,
                                 .dtype = DataType::bf16,
                                 .table = TableKind::pair},
                      .m = 9,
                      .target = other_target()},
                     {.tile_rows = 16, .weights = WeightPath::async_copy, .stages = 4});
}

Seeds manifests() {
  const Numbers numbers{.n = 4096,
                        .k = 4096,
                        .m = 1,
                        .bits = 4,
                        .group = 128,
                        .tile_rows = 32,
                        .tile_tokens = 8,
                        .warps = 8,
                        .stages = 2,
                        .blocks_per_multiprocessor = 1};
  return {
      {"manifest_scalar", input('m', bytes_of(scalar_manifest()))},
      {"manifest_pair", input('m', bytes_of(pair_manifest()))},
      {"manifest_bulk", input('m', bytes_of(bulk_manifest()))},
      {"manifest_bulk_where_there_is_none",
       input('m', bytes_of(replaced(bulk_manifest(), "sm_90a", "sm_80")))},
      {"manifest_group_as_text",
       input('m', bytes_of(replaced(scalar_manifest(), R"("group": 128)", R"("group": "128")")))},
      {"numbers", input('n', std::as_bytes(std::span(&numbers, 1)))},
  };
}

/// Sections of a synthetic cubin.
enum Section : std::size_t { names = 2, symbols = 3, sections = 4 };

std::size_t offset_of(const Bytes& cubin, Section section) {
  return cubin.size() - (sections - section) * sizeof(Elf64_Shdr);
}

Bytes with_section(const Bytes& cubin, Section section, std::uint64_t offset, std::uint64_t size) {
  const std::size_t at = offset_of(cubin, section);
  return with_number(with_number(cubin, at + offsetof(Elf64_Shdr, sh_offset), offset),
                     at + offsetof(Elf64_Shdr, sh_size), size);
}

/// The whole file is its table of names, and the last one has no zero byte behind it.
Bytes name_without_end() {
  constexpr std::string_view kName = "kernel";
  const Bytes cubin = synthetic_cubin(*Target::parse("sm_90a"), kName);
  const std::size_t symbol = offset_of(cubin, Section{0}) - sizeof(Elf64_Sym);
  const Bytes changed = with_number(with_section(cubin, names, 0, cubin.size() + kName.size()), symbol,
                                    static_cast<Elf64_Word>(cubin.size()));
  return joined({changed, bytes_of(kName)});
}

Bytes two_symbol_tables() {
  const Bytes cubin = synthetic_cubin(*Target::parse("sm_90a"), "kernel");
  return with_number(cubin, offset_of(cubin, names) + offsetof(Elf64_Shdr, sh_type), Elf64_Word{SHT_SYMTAB});
}

Seeds cubins() {
  const Bytes cubin = synthetic_cubin(*Target::parse("sm_90a"), "kernel");
  return {
      {"cubin", input('x', cubin)},
      {"cubin_cut_off", input('x', std::span(cubin).first(cubin.size() - 1))},
      {"cubin_of_other_kernel", input('x', synthetic_cubin(*Target::parse("sm_90a"), "other"))},
      {"cubin_of_symbols_whose_end_wraps", input('x', with_section(cubin, symbols, ~std::uint64_t{7}, 48))},
      {"cubin_of_names_whose_end_wraps", input('x', with_section(cubin, names, ~std::uint64_t{7}, 48))},
      {"cubin_of_two_symbol_tables", input('x', two_symbol_tables())},
      {"cubin_of_name_without_end", input('x', name_without_end())},
  };
}

/// An entry's body without a manifest.
Bytes body_of(std::uint32_t encoding, std::uint64_t size, const Bytes& stored) {
  const Bytes head = with_number(with_number(with_number(Bytes(4 + 4 + 8 + 8), 4, encoding), 8, size), 16,
                                 std::uint64_t{stored.size()});
  return input('b', joined({head, stored}));
}

Bytes body_in(std::span<const std::byte> entry) {
  return input('b', entry.first(entry.size() - kDigestBytes).subspan(kStartBytes));
}

Seeds bodies(const Bytes& plain, const Bytes& packed) {
  // Frames of Zstandard with an empty block each: magic, descriptor, size of the contents, block.
  const Bytes empty = bytes_of({"\x28\xb5\x2f\xfd\x20\0\1\0\0", 9});
  const Bytes too_long = bytes_of({"\x28\xb5\x2f\xfd\xa0\0\0\0\x08\1\0\0", 12});  // 128 MiB, it says
  return {
      {"body_plain", body_in(plain)},
      {"body_packed", body_in(packed)},
      {"body_of_zeros", body_in(must(cache::encode({.manifest = "{}", .payload = Bytes(200'000)})))},
      {"body_of_two_frames", body_of(1, 0, joined({empty, empty}))},
      {"body_of_too_long_payload", body_of(1, 128U << 20U, too_long)},
  };
}

}  // namespace

Seeds entry_seeds() {
  const std::string manifest = scalar_manifest();
  const Bytes cubin = synthetic_cubin(*Target::parse("sm_90a"), "kernel");
  // Seven bytes do not get shorter.
  const Bytes plain = must(cache::encode({.manifest = manifest, .payload = bytes_of("payload")}));
  const Bytes packed = must(cache::encode({.manifest = manifest, .payload = cubin}));
  Seeds seeds{
      {"entry_plain", input('e', plain)},
      {"entry_packed", input('e', packed)},
      {"entry_empty", input('e', must(cache::encode({})))},
      {"entry_older", input('e', with_number(plain, 8, cache::kEntryVersion - 1))},
      {"entry_newer", input('e', with_number(plain, 8, cache::kEntryVersion + 1))},
      {"entry_cut_off", input('e', std::span(packed).first(packed.size() / 2))},
      {"contents", input('c', joined({bytes_of(manifest), Bytes(1), cubin}))},
      {"contents_for_other_target",
       input('c', joined({bytes_of(pair_manifest()), Bytes(1), synthetic_cubin(other_target(), "kernel")}))},
  };
  seeds.merge(bodies(plain, packed));
  seeds.merge(manifests());
  seeds.merge(cubins());
  return seeds;
}

}  // namespace lutsmith::fuzz
