"""Models of transformers whose linear layers are packed: small random ones, on the CPU."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import transformers

import lutsmith
from lutsmith.nn import Linear, set_batch_invariant
from lutsmith.transformers import LutsmithConfig
from reference import Products

# Neither the width nor the inner width is a multiple of 128, and a group of 64 does not divide them.
SIZES = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 112,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2.5": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
}
LAYERS_OF_A_BLOCK = 7  # q, k, v, o, gate, up, down
TOKENS = torch.tensor([[1, 5, 9, 100, 42, 7, 77, 3, 64, 11], [2, 2, 111, 4, 5, 6, 90, 13, 1, 0]])


def random_model(name: str, dtype: torch.dtype = torch.float16, **sizes):
    config_class, model_class = ARCHITECTURES[name]
    torch.manual_seed(7)
    model = model_class(config_class(**{**SIZES, **sizes})).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("bias"):
                value.normal_(std=0.1)
    return model.to(dtype)


@pytest.fixture
def checkpoint(tmp_path):
    """Saves a random model; returns its folder and the model."""

    def save(name: str = "llama", dtype: torch.dtype = torch.float16, **sizes):
        model = random_model(name, dtype, **sizes)
        model.save_pretrained(tmp_path / "original")
        return tmp_path / "original", model

    return save


def load(path, config: LutsmithConfig | None = None, **kwargs):
    if config is not None:
        kwargs["quantization_config"] = config
    return transformers.AutoModelForCausalLM.from_pretrained(path, **kwargs)


def packed_layers(model) -> dict[str, Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


def dequantized(model, dtype: torch.dtype):
    """The same model in `dtype` with torch's own layers, whose weights are the numbers that the codes stand for."""
    state = {}
    for key, value in model.state_dict().items():
        name, _, kind = key.rpartition(".")
        if kind == "_extra_state":
            continue
        if kind == "weight" and isinstance(model.get_submodule(name), Linear):
            # Exact: the product of two 16-bit floats.
            (packed,) = model.get_submodule(name).packed_weights()
            value = packed.dequantize(torch.float32)
        state[key] = value.to(dtype) if value.is_floating_point() else value
    config = type(model.config).from_dict(model.config.to_dict())
    plain = type(model)(config).to(dtype).eval()
    plain.load_state_dict(state)
    for name, buffer in model.named_buffers():  # of no state dict: rotary frequencies, which .to() has rounded
        if name.rpartition(".")[2] != "weight":
            plain.get_submodule(name.rpartition(".")[0]).register_buffer(name.rpartition(".")[2], buffer, False)
    return plain


@torch.no_grad()
def logits(model, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    return model(tokens).logits.to(torch.float64)


def relative_error(given: torch.Tensor, expected: torch.Tensor) -> float:
    return ((given - expected).norm() / expected.norm()).item()


def same_bytes(one, other) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_those_of_the_dequantized_weights_in_float64(checkpoint, name, dtype):
    path, _ = checkpoint(name, dtype)
    model = load(path, LutsmithConfig(bits=4, group=64))
    assert len(packed_layers(model)) == LAYERS_OF_A_BLOCK * SIZES["num_hidden_layers"]
    expected = logits(dequantized(model, torch.float64))
    error = relative_error(logits(model), expected)
    # What the same model loses with torch's own layers: its activations are rounded in the same places.
    error_of_torch = relative_error(logits(dequantized(model, dtype)), expected)
    assert error <= 1.1 * error_of_torch
    assert error <= {torch.float16: 3e-3, torch.bfloat16: 3e-2}[dtype]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_layer_has_the_codes_of_its_own_weight(checkpoint, name):
    path, original = checkpoint(name)
    layers = packed_layers(load(path, LutsmithConfig(bits=3, group=32, method="nf")))
    assert layers
    for layer_name, layer in layers.items():
        linear = original.get_submodule(layer_name)
        expected = lutsmith.quantize(linear.weight.detach(), method="nf", bits=3, group=32)
        assert layer.format == expected.format
        assert torch.equal(layer.weight, expected.data)
        assert (layer.bias is None) == (linear.bias is None)
        assert linear.bias is None or torch.equal(layer.bias, linear.bias)


@pytest.mark.parametrize("settings", [{"method": "kmeans"}, {"method": "nf", "scales": "mse"}], ids=str)
def test_each_layer_has_the_table_and_scales_of_its_own_weight(checkpoint, settings):
    path, original = checkpoint()
    layers = packed_layers(load(path, LutsmithConfig(bits=2, group=32, **settings)))
    for name, layer in layers.items():
        expected = lutsmith.quantize(original.get_submodule(name).weight.detach(), bits=2, group=32, **settings)
        assert layer.format == expected.format
        assert torch.equal(layer.weight, expected.data)
    tables = {lutsmith.PackedWeight(layer.weight, layer.format).table for layer in layers.values()}
    assert len(tables) == (len(layers) if settings["method"] == "kmeans" else 1)


def test_scales_that_do_not_go_with_the_table_are_refused():
    with pytest.raises(ValueError, match="LutsmithConfig: scales: 'absmax' is not allowed with method kmeans"):
        LutsmithConfig(method="kmeans", scales="absmax")


@pytest.mark.parametrize(
    "config",
    [
        {"bits": 2, "group": 64, "method": "kmeans"},
        {"bits": 4, "group": 64},
        {"bits": 3, "group": 128},
        {"bits": 2, "group": "channel"},
        {"bits": 4, "group": 32, "method": "int"},
        {"bits": 2, "group": 64, "table": [0.5, -1.0, 0.25, 1.0]},
        {"bits": 4, "group": 64, "modules_to_not_convert": ["down_proj"], "lm_head": True},
    ],
    ids=str,
)
def test_what_is_saved_loads_bit_for_bit(checkpoint, tmp_path, config):
    path, _ = checkpoint("qwen2.5", tie_word_embeddings=False)
    model = load(path, LutsmithConfig(**config))
    model.save_pretrained(tmp_path / "packed")
    again = load(tmp_path / "packed")
    assert packed_layers(model).keys() == packed_layers(again).keys()
    assert [layer.format for layer in packed_layers(model).values()] == [
        layer.format for layer in packed_layers(again).values()
    ]
    assert same_bytes(model, again)
    assert torch.equal(logits(model), logits(again))
    again.save_pretrained(tmp_path / "twice")
    assert same_bytes(model, load(tmp_path / "twice"))


def test_a_batch_invariant_model_is_so_in_every_layer_and_after_a_round_trip(checkpoint, tmp_path):
    def flags(model) -> set[bool]:
        with Products() as products, torch.no_grad():
            model(TOKENS)
        assert len(products.batch_invariant) == LAYERS_OF_A_BLOCK * SIZES["num_hidden_layers"] + 1
        return set(products.batch_invariant)

    def saved(path) -> dict:
        return json.loads((path / "config.json").read_text())["quantization_config"]

    path, _ = checkpoint()
    model = load(path, LutsmithConfig(batch_invariant=True, lm_head=True))
    assert flags(model) == {True}
    model.save_pretrained(tmp_path / "packed")
    assert saved(tmp_path / "packed")["batch_invariant"] is True
    again = load(tmp_path / "packed")
    assert flags(again) == {True}
    assert flags(load(path, LutsmithConfig(lm_head=True))) == {False}

    set_batch_invariant(again, False)
    assert flags(again) == {False}
    again.save_pretrained(tmp_path / "changed")
    assert flags(load(tmp_path / "changed")) == {False}

    # As releases without the option wrote it.
    text = json.loads((tmp_path / "packed" / "config.json").read_text())
    del text["quantization_config"]["batch_invariant"]
    (tmp_path / "packed" / "config.json").write_text(json.dumps(text))
    assert flags(load(tmp_path / "packed")) == {False}


def test_shards_of_a_saved_model_load_bit_for_bit(checkpoint, tmp_path):
    path, original = checkpoint()
    original.save_pretrained(path, max_shard_size="60KB")
    model = load(path, LutsmithConfig())
    model.save_pretrained(tmp_path / "packed", max_shard_size="30KB")
    assert len(list((tmp_path / "packed").glob("model-*.safetensors"))) > 2
    assert same_bytes(model, load(tmp_path / "packed"))


def test_packed_bytes_are_all_that_a_saved_layer_has(checkpoint, tmp_path):
    path, _ = checkpoint()
    model = load(path, LutsmithConfig())
    model.save_pretrained(tmp_path / "packed")
    from safetensors import safe_open

    with safe_open(tmp_path / "packed" / "model.safetensors", "pt") as file:
        names = set(file.keys())
        for name, layer in packed_layers(model).items():
            assert {key for key in names if key.startswith(f"{name}.")} == {f"{name}.weight", f"{name}._extra_state"}
            assert torch.equal(file.get_tensor(f"{name}.weight"), layer.weight)
    saved = json.loads((tmp_path / "packed" / "config.json").read_text())["quantization_config"]
    assert (saved["quant_method"], saved["bits"], saved["group"], saved["dtype"]) == ("lutsmith", 4, 64, "float16")


def test_generated_tokens_are_the_same_after_a_round_trip(checkpoint, tmp_path):
    path, _ = checkpoint("gemma3")
    model = load(path, LutsmithConfig())
    model.save_pretrained(tmp_path / "packed")
    again = load(tmp_path / "packed")
    one, other = (
        each.generate(TOKENS, attention_mask=torch.ones_like(TOKENS), max_new_tokens=5, do_sample=False)
        for each in (model, again)
    )
    assert one.shape[1] > TOKENS.shape[1]
    assert torch.equal(one, other)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("head", [True, False], ids=["head", "no_head"])
def test_embedding_and_head_keep_their_own_weights(checkpoint, tmp_path, tied, head):
    path, original = checkpoint("gemma2", tie_word_embeddings=tied)
    model = load(path, LutsmithConfig(lm_head=head))
    model.save_pretrained(tmp_path / "packed")
    for each in (model, load(tmp_path / "packed")):
        embedding = each.get_input_embeddings().weight
        assert torch.equal(embedding, original.get_input_embeddings().weight)
        if head:
            expected = lutsmith.quantize(original.get_output_embeddings().weight.detach(), bits=4, group=64)
            assert torch.equal(each.get_output_embeddings().weight, expected.data)
        else:
            assert (each.get_output_embeddings().weight is embedding) == tied
            assert torch.equal(each.get_output_embeddings().weight, original.get_output_embeddings().weight)
        error = relative_error(logits(each), logits(dequantized(each, torch.float64)))
        assert error <= 3e-3


@pytest.mark.parametrize("pattern", ["down_proj", "model.layers.1", r"model\.layers\.\d\.mlp\.up_proj"])
def test_modules_to_not_convert_stay_as_they_are(checkpoint, pattern):
    path, original = checkpoint()
    model = load(path, LutsmithConfig(modules_to_not_convert=[pattern]))
    kept = {
        name: module
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear and name != "lm_head"
    }
    expected = {"down_proj": 2, "model.layers.1": LAYERS_OF_A_BLOCK}.get(pattern, 2)
    assert len(kept) == expected
    assert len(packed_layers(model)) == 2 * LAYERS_OF_A_BLOCK - expected
    for name, module in kept.items():
        assert torch.equal(module.weight, original.get_submodule(name).weight)


def test_a_pattern_that_names_no_module_is_refused(checkpoint):
    path, _ = checkpoint()
    message = r"names 'down_project'.*LlamaForCausalLM.*model\.layers\.0\.self_attn\.q_proj"
    with pytest.raises(ValueError, match=message):
        load(path, LutsmithConfig(modules_to_not_convert=["down_project"]))


@pytest.fixture
def warnings_of_transformers(monkeypatch):
    """What transformers' logger, which writes past pytest's, was asked to warn of."""
    said: list[str] = []
    monkeypatch.setattr(lutsmith.transformers.logger, "warning", said.append)
    return said


def test_modules_that_cannot_be_packed_are_named(tmp_path, warnings_of_transformers):
    config = transformers.MixtralConfig(**SIZES, num_local_experts=4)
    transformers.MixtralForCausalLM(config).half().save_pretrained(tmp_path / "mixtral")
    model = load(tmp_path / "mixtral", LutsmithConfig())
    assert len(packed_layers(model)) == 4 * SIZES["num_hidden_layers"]  # q, k, v, o
    (warning,) = warnings_of_transformers
    assert "these stay in float16" in warning
    assert "model.layers.*.mlp.experts (2): MixtralExperts with gate_up_proj, down_proj" in warning


def test_layers_that_no_kernel_multiplies_are_named(checkpoint, warnings_of_transformers):
    path, _ = checkpoint(intermediate_size=100)
    model = load(path, LutsmithConfig())
    assert type(model.model.layers[0].mlp.down_proj) is torch.nn.Linear
    assert type(model.model.layers[0].mlp.up_proj) is Linear
    (warning,) = warnings_of_transformers
    assert "model.layers.*.mlp.down_proj (2): 100 columns are no multiple of 8" in warning


def test_a_model_without_a_layer_to_quantize_is_refused(checkpoint):
    path, _ = checkpoint()
    with pytest.raises(ValueError, match="LlamaForCausalLM has no layer to quantize"):
        load(path, LutsmithConfig(modules_to_not_convert=["model"]))


def test_a_weight_that_cannot_be_quantized_is_named(checkpoint, caplog, monkeypatch):
    path, model = checkpoint()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    model.save_pretrained(path)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with pytest.raises(RuntimeError, match="CONVERSION"):
        load(path, LutsmithConfig())
    report = caplog.text
    assert "model.layers.1.mlp.up_proj.weight" in report
    assert "nan at row 3, column 5; every weight must be finite" in report


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bits": 9}, "bits.*1"),
        ({"bits": 5}, "bits: 5.*1, 2, 3, 4"),
        ({"bits": 1, "method": "nf"}, "nf"),
        ({"group": 48}, "group.*48.*32, 64, 128, 256"),
        ({"method": "nf5"}, "method.*nf5.*nf"),
        ({"table": [1.0, 2.0]}, "table.*2 values given.*16"),
        ({"dtype": "float32"}, "dtype: float32 is not allowed; allowed: float16, bfloat16"),
        ({"group_size": 64}, "group_size; it has bits, group"),
        ({"batch_invariant": "yes"}, "batch_invariant: 'yes' is not allowed; allowed: True, False"),
        ({"modules_to_not_convert": "lm_head"}, "allowed: a list of names"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused_with_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=message):
        LutsmithConfig(**wrong)


def test_a_float32_model_is_loaded_in_bfloat16_and_says_so(checkpoint, warnings_of_transformers):
    path, _ = checkpoint(dtype=torch.float32)
    model = load(path, LutsmithConfig())
    assert model.dtype == torch.bfloat16
    assert {layer.packed_weights()[0].dtype for layer in packed_layers(model).values()} == {torch.bfloat16}
    assert any("torch.bfloat16 instead of torch.float32" in warning for warning in warnings_of_transformers)


def test_a_saved_model_in_another_type_is_refused(checkpoint, tmp_path):
    path, _ = checkpoint(dtype=torch.bfloat16)
    load(path, LutsmithConfig()).save_pretrained(tmp_path / "packed")
    with pytest.raises(ValueError, match="dtype=torch.float16 given.*packed for torch.bfloat16: load it with"):
        load(tmp_path / "packed", dtype=torch.float16)


def test_dequantize_gives_a_model_of_torchs_layers(checkpoint):
    path, _ = checkpoint("qwen2.5")
    model = load(path, LutsmithConfig(lm_head=True))
    expected = logits(dequantized(model, torch.float16))
    plain = model.dequantize()
    assert not packed_layers(plain)
    assert not hasattr(plain.config, "quantization_config")
    assert torch.equal(logits(plain), expected)


def test_parallel_plans_of_transformers_are_refused(checkpoint, monkeypatch):
    path, _ = checkpoint()
    monkeypatch.setattr(transformers.LlamaConfig, "distributed_config", object(), raising=False)
    with pytest.raises(ValueError, match="cannot split packed weights: load the model without tp_plan"):
        load(path, LutsmithConfig())


# In a process of its own, so that memory which other tests gave back cannot serve for this one's.
MEASURE_PEAK = """
import sys
from pathlib import Path
import torch, transformers
from lutsmith.transformers import LutsmithConfig

def kibibytes(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name + ":")]
    return int(line.split()[1])

path = Path(sys.argv[1])
config = LutsmithConfig(bits=4, group=64)
warm = transformers.AutoModelForCausalLM.from_pretrained(path / "small", quantization_config=config)
Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here on
before = kibibytes("VmRSS")
model = transformers.AutoModelForCausalLM.from_pretrained(path / "large", quantization_config=config)
print(kibibytes("VmHWM") - before)
"""


def test_one_layer_at_a_time_is_in_memory_while_quantizing(tmp_path):
    sizes = {"hidden_size": 384, "intermediate_size": 1024, "head_dim": 96}
    random_model("llama").save_pretrained(tmp_path / "small")
    large = random_model("llama", torch.float32, num_hidden_layers=8, **sizes)
    large.save_pretrained(tmp_path / "large")
    checkpoint_bytes = (tmp_path / "large" / "model.safetensors").stat().st_size
    largest = sizes["hidden_size"] * sizes["intermediate_size"] * 4
    packed = checkpoint_bytes * (4 + 16 / 64) / 32

    # So that glibc gives back what is freed instead of keeping it for later, and only what is in use counts.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEASURE_PEAK, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)

    # The checkpoint is mapped: what was read of it counts, but the system takes it back whenever it needs to. Beside it
    # stand the packed bytes and one layer: as it was read, in the model's type, and what quantizing it takes.
    noise = 4 << 20
    in_memory = 1024 * int(done.stdout) - checkpoint_bytes
    assert in_memory <= packed + 4 * largest + noise
    # All layers at once in 16 bits would be more than is allowed.
    assert checkpoint_bytes / 2 > 1.25 * (packed + 4 * largest + noise)


def test_the_package_imports_without_transformers():
    code = "import lutsmith, sys; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
