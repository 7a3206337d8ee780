"""Foreign checkpoints as folders that transformers loads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import safetensors
import torch

import transformers

import foreign
import lutsmith
import lutsmith.transformers  # registers the quantizer
from lutsmith import checkpoints
from lutsmith.checkpoints.command import main
from lutsmith.nn import Linear

SIZES = {
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 112,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
TOKENS = torch.tensor([[1, 5, 9, 100, 42, 7, 77, 3]])


def small_model(**sizes) -> transformers.LlamaForCausalLM:
    torch.manual_seed(3)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, **sizes})).half().eval()


def write_checkpoint(folder, make, quantization: dict, separator: str = ".", left: tuple[str, ...] = (), **sizes):
    """A Llama whose layers are `make(n, k)`; returns the same model with the weights that they stand for."""
    folder.mkdir()
    model = small_model(**sizes)
    tensors = {}
    with torch.no_grad():
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.Linear) and name != "lm_head" and not name.endswith(left or "nothing"):
                made = make(module.out_features, module.in_features)
                tensors |= foreign.named(made, name if separator else f"{name}.weight", separator)
                module.weight.copy_(made.weights)
                continue
            for key, value in module.named_parameters(recurse=False):
                tensors[f"{name}.{key}"] = value.detach()
    foreign.write(folder / "model.safetensors", tensors)
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    (folder / "tokenizer.json").write_text("{}")
    return model


def load(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path).eval()


def packed_layers(model) -> dict[str, Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


def assert_same(converted, expected, tolerance: float = 0.0) -> None:
    """Every weight is the one expected, rounded to float16, and the logits are those of such a model."""
    layers = packed_layers(converted)
    for name, parameter in expected.named_parameters():
        module = name.removesuffix(".weight")
        if module in layers:
            (packed,) = layers[module].packed_weights()
            difference = (packed.dequantize(torch.float32) - parameter.float()).norm() / parameter.float().norm()
            assert difference <= tolerance + 2**-11, name
        else:
            assert torch.equal(converted.get_parameter(name), parameter), name
    with torch.no_grad():
        logits, right = converted(TOKENS).logits.float(), expected(TOKENS).logits.float()
    assert (logits - right).norm() / right.norm() < 5e-3 + 2 * tolerance


def test_gptq_model_is_loaded_with_its_own_codes(tmp_path):
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    expected = write_checkpoint(tmp_path / "gptq", lambda n, k: foreign.gptq(n, k, 4, 32), quantization)
    report = checkpoints.convert(tmp_path / "gptq", tmp_path / "packed", progress=False)
    assert report.relative_error == 0 and "14 GPTQ 4 bits: exact" in str(report)
    model = load(tmp_path / "packed")
    assert len(packed_layers(model)) == 14
    assert type(model.lm_head) is torch.nn.Linear
    assert_same(model, expected)
    assert (tmp_path / "packed" / "tokenizer.json").exists()
    # Readable by whoever may read other new files.
    (tmp_path / "new").touch()
    for file in (tmp_path / "packed").iterdir():
        assert file.stat().st_mode == (tmp_path / "new").stat().st_mode
    with pytest.raises(lutsmith.Error, match="packed already"):
        checkpoints.load(tmp_path / "packed")
    with safetensors.safe_open(tmp_path / "packed" / "model.safetensors", "pt") as opened:
        assert not any(name.endswith(".order") for name in opened.keys())
    with safetensors.safe_open(tmp_path / "packed" / "model.safetensors", "pt") as opened:
        assert not any(name.endswith(".order") for name in opened.keys())
    # It can be saved again.
    model.save_pretrained(tmp_path / "again")
    assert_same(load(tmp_path / "again"), expected)


def test_type_that_rounds_the_scales_is_the_models_and_says_so(tmp_path):
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    expected = write_checkpoint(tmp_path / "gptq", lambda n, k: foreign.gptq(n, k, 4, 32), quantization)
    report = checkpoints.convert(tmp_path / "gptq", tmp_path / "packed", dtype=torch.bfloat16, progress=False)
    assert 2**-11 < report.relative_error < 2**-8
    model = load(tmp_path / "packed")
    assert model.dtype == torch.bfloat16 == packed_layers(model)["model.layers.0.mlp.up_proj"].packed_weights()[0].dtype
    for name, layer in packed_layers(model).items():
        weight = layer.packed_weights()[0].dequantize(torch.float32)
        original = expected.get_submodule(name).weight.float()
        assert (weight - original).norm() / original.norm() < 2**-8 + 2**-11


def test_layers_of_different_groups_get_the_smallest(tmp_path):
    # Of 96 columns a block of 64 runs on into the next row; of 128 it does not.
    expected = write_checkpoint(
        tmp_path / "bnb",
        lambda n, k: foreign.bitsandbytes(n, k, "nf4", nested=True),
        {"quant_method": "bitsandbytes"},
        separator="",
    )
    report = checkpoints.convert(tmp_path / "bnb", tmp_path / "packed", progress=False)
    model = load(tmp_path / "packed")
    assert {layer.packed_weights()[0].group for layer in packed_layers(model).values()} == {32}
    assert 0 < report.relative_error < 2**-10
    assert_same(model, expected, tolerance=2**-10)


def test_layers_that_are_not_quantized_and_files_of_any_size_are_kept(tmp_path):
    expected = write_checkpoint(
        tmp_path / "ct",
        lambda n, k: foreign.pack_quantized(n, k, 3, 32, torch.float16),
        {"quant_method": "compressed-tensors"},
        left=("down_proj", "0.self_attn.q_proj"),
    )
    checkpoints.convert(tmp_path / "ct", tmp_path / "packed", progress=False, shard_bytes=20000)
    files = {}
    for file in (tmp_path / "packed").glob("model-*-of-*.safetensors"):
        with safetensors.safe_open(file, "pt") as opened:
            files |= dict.fromkeys(opened.keys(), file.name)
    assert len(set(files.values())) > 2
    assert json.loads((tmp_path / "packed" / "model.safetensors.index.json").read_text())["weight_map"] == files
    model = load(tmp_path / "packed")
    layers = packed_layers(model)
    assert len(layers) == 11 and {layer.packed_weights()[0].bits for layer in layers.values()} == {3}
    assert_same(model, expected)


def test_zero_points_are_carried_over_with_layers_that_need_no_offsets(tmp_path):
    def make(n: int, k: int) -> foreign.Made:
        group = 64 if k == 128 else 32
        zeros = torch.randint(6, 11, (n, k // group), generator=foreign.generator(n))
        return foreign.awq(n, k, group, zeros=zeros if 128 in (n, k) else None)

    expected = write_checkpoint(tmp_path / "awq", make, {"quant_method": "awq"})
    report = checkpoints.convert(tmp_path / "awq", tmp_path / "packed", progress=False)
    assert report.relative_error == 0 and "14 AWQ 4 bits: exact" in str(report)
    model = load(tmp_path / "packed")
    packed = {name: layer.packed_weights()[0] for name, layer in packed_layers(model).items()}
    assert len(packed) == 14 and all(weight.has_offsets and weight.group == 32 for weight in packed.values())
    assert {name for name, weight in packed.items() if weight.offsets().any()} == {
        f"model.layers.{i}.mlp.{name}_proj" for i in range(2) for name in ("gate", "up", "down")
    }
    assert_same(model, expected)
    model.save_pretrained(tmp_path / "again")
    assert_same(load(tmp_path / "again"), expected)


def test_models_that_are_quantized_now_have_no_offsets(tmp_path):
    small_model().save_pretrained(tmp_path / "plain")
    config = lutsmith.transformers.LutsmithConfig(group=32, offsets=True)
    with pytest.raises(ValueError, match="offsets: True is not allowed for a model that is not packed"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=config)
    with pytest.raises(ValueError, match="offsets: 1 is not allowed; allowed: True, False"):
        lutsmith.transformers.LutsmithConfig(offsets=1)


def test_layers_that_cannot_be_carried_over_are_requantized_like_the_others(tmp_path):
    def make(n: int, k: int) -> foreign.Made:
        return foreign.gptq(n, k, 8 if n == 128 else 4, 32)

    expected = write_checkpoint(tmp_path / "gptq", make, {"quant_method": "gptq", "bits": 4, "group_size": 32})
    with pytest.raises(lutsmith.Error, match=r"gate_proj.*8 bits.*requantize=True"):
        checkpoints.convert(tmp_path / "gptq", tmp_path / "packed", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gptq"]  # nothing is left of the failure
    with pytest.raises(lutsmith.Error, match="requantize: group 64 given.*have 32"):
        checkpoints.convert(tmp_path / "gptq", tmp_path / "packed", requantize={"group": 64}, progress=False)
    report = checkpoints.convert(tmp_path / "gptq", tmp_path / "packed", requantize=True, progress=False)
    assert sorted({loss.how for loss in report.losses}) == ["exact", "kept", "requantized"]
    assert_same(load(tmp_path / "packed"), expected, tolerance=0.2)
    # By the command, with tables of the layers' own.
    learned = [str(tmp_path / name) for name in ("gptq", "learned")]
    assert main([*learned, "--requantize", "--method", "kmeans", "--scales", "mse"]) == 0
    layers = packed_layers(load(tmp_path / "learned"))
    assert len({layer.packed_weights()[0].table for layer in layers.values()}) == 2  # integers, and learned
    assert_same(load(tmp_path / "learned"), expected, tolerance=0.2)


def test_nvfp4_model_is_requantized_with_its_own_table(tmp_path):
    expected = write_checkpoint(
        tmp_path / "nvfp4",
        lambda n, k: foreign.nvfp4(n, k, "compressed-tensors"),
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
    )
    report = checkpoints.convert(
        tmp_path / "nvfp4", tmp_path / "packed", requantize=True, dtype=torch.float16, progress=False
    )
    assert "14 NVFP4: requantized" in str(report) and report.relative_error < 0.065
    model = load(tmp_path / "packed")
    for layer in packed_layers(model).values():
        assert layer.packed_weights()[0].group == 32 and sorted(layer.packed_weights()[0].table) == sorted(foreign.E2M1)
    assert_same(model, expected, tolerance=0.065)


def test_biases_of_zeros_that_the_model_has_not_are_left_out(tmp_path):
    def make(n: int, k: int) -> foreign.Made:
        made = foreign.gptq(n, k, 4, 32)
        return made._replace(tensors={**made.tensors, "bias": torch.zeros(n, dtype=torch.float16)})

    write_checkpoint(tmp_path / "gptq", make, {"quant_method": "gptq", "bits": 4, "group_size": 32})
    report = checkpoints.convert(tmp_path / "gptq", tmp_path / "packed", progress=False)
    assert sum(loss.how == "left out" for loss in report.losses) == 14
    assert not any(name.endswith("bias") for name in load(tmp_path / "packed").state_dict())


def test_target_that_is_not_empty_and_models_without_quantized_layers_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(lutsmith.Error, match="no empty folder"):
        checkpoints.convert(tmp_path / "any", tmp_path / "full")
    small_model().save_pretrained(tmp_path / "plain")
    with pytest.raises(lutsmith.Error, match="no linear layer of it is quantized; LutsmithConfig"):
        checkpoints.convert(tmp_path / "plain", tmp_path / "packed")
    made = foreign.gptq(32, 64, 4, 32)
    file = tmp_path / "plain" / "model.safetensors"
    foreign.write(file, foreign.named(made, "model.layers.0.mlp.experts.5"))
    with pytest.raises(lutsmith.Error, match="experts.5.*has no layer of that name.*checkpoints.load"):
        checkpoints.convert(tmp_path / "plain", tmp_path / "packed")


def test_command_line_imports(tmp_path, capsys):
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    expected = write_checkpoint(tmp_path / "gptq", lambda n, k: foreign.gptq(n, k, 4, 32), quantization)
    arguments = [str(tmp_path / "gptq"), str(tmp_path / "packed")]
    command = [sys.executable, "-W", "ignore", "-m", "lutsmith", "import", *arguments, "--dtype", "f16"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "14 GPTQ 4 bits: exact" in done.stdout
    assert_same(load(tmp_path / "packed"), expected)

    assert main([str(tmp_path / "absent"), str(tmp_path / "other")]) == 1
    assert f"\nlutsmith import: {tmp_path}/absent: there is no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as wrong:
        main([*arguments, "--bits", "4"])
    assert wrong.value.code == 2 and "--requantize, which is not given" in capsys.readouterr().err


# GGUF


def write_gguf(path, model, kinds: dict[str, str], encode=None) -> None:
    """As llama.cpp's converter does: rows of q and k in its order. kinds: by the end of a tensor's name, else F32.
    encode: what makes blocks of weights, where the package gguf does not."""
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_name("small")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        values = parameter.detach().float()
        for end, heads in (
            ("q_proj.weight", config.num_attention_heads),
            ("k_proj.weight", config.num_key_value_heads),
        ):
            if name.endswith(end):
                values = values.reshape(heads, 2, -1, values.shape[1]).transpose(1, 2).reshape(values.shape)
        base, _, kind = name.rpartition(".")
        ours = next((kinds[end] for end in kinds if name.endswith(end)), "F32")
        data = values.contiguous().numpy()
        if ours != "F32":
            data = encode(data) if encode else gguf.quantize(data, gguf.GGMLQuantizationType[ours])
        elif data.ndim == 2:
            data = data.astype(numpy.float16)
        writer.add_tensor(
            f"{names.get_name(base)}.{kind}",
            data,
            raw_dtype=None if ours == "F32" else gguf.GGMLQuantizationType[ours],
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_by_transformers(file, **sizes):
    """A model of torch's own layers; what `from_pretrained` gives says that it is quantized."""
    read = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, **sizes}))
    model.load_state_dict(read.state_dict())
    return model.half().eval()


@pytest.mark.parametrize("head", ["Q4_0", "Q4_1", "Q8_0"])
def test_gguf_model_is_loaded_with_its_own_codes(tmp_path, head):
    write_gguf(
        tmp_path / "m.gguf",
        small_model(),
        {"proj.weight": "Q4_0", "embed_tokens.weight": "Q8_0", "lm_head.weight": head},
    )
    expected = read_by_transformers(tmp_path / "m.gguf")
    report = checkpoints.convert(tmp_path / "m.gguf", tmp_path / "packed", progress=False)
    model = load(tmp_path / "packed")
    layers = packed_layers(model)
    assert len(layers) == 14 + (head == "Q4_0")
    assert_same(model, expected)
    assert {loss.how for loss in report.losses} == {"exact", "kept", "dequantized"}
    q = layers["model.layers.0.self_attn.q_proj"].packed_weights()[0]
    assert (q.bits, q.group, q.table[0]) == (4, 32, -8)


def test_gguf_model_of_mixed_types_is_requantized_where_it_must_be(tmp_path):
    write_gguf(tmp_path / "m.gguf", small_model(), {"down_proj.weight": "Q5_0", "proj.weight": "Q4_0"})
    expected = read_by_transformers(tmp_path / "m.gguf")
    report = checkpoints.convert(tmp_path / "m.gguf", tmp_path / "packed", requantize=True, progress=False)
    assert sum(loss.how == "requantized" for loss in report.losses) == 2
    model = load(tmp_path / "packed")
    assert {layer.packed_weights()[0].group for layer in packed_layers(model).values()} == {32}
    assert_same(model, expected, tolerance=0.1)


def test_gguf_model_is_requantized_with_transforms(tmp_path):
    write_gguf(tmp_path / "m.gguf", small_model(), {"proj.weight": "Q5_0"})
    expected = read_by_transformers(tmp_path / "m.gguf")
    again = {"method": "higgs", "bits": 4, "group": 32}
    report = checkpoints.convert(tmp_path / "m.gguf", tmp_path / "packed", requantize=again, progress=False)
    assert 0.06 < report.relative_error < 0.1  # the root of the grid's 0.0077
    model = load(tmp_path / "packed")
    assert all(layer.packed_weights()[0].hadamard is not None for layer in packed_layers(model).values())
    assert_same(model, expected, tolerance=0.15)


def test_gguf_model_with_minima_beside_some_scales_is_loaded_with_its_own_codes(tmp_path):
    kinds = {"down_proj.weight": "Q5_0", "q_proj.weight": "Q4_1", "v_proj.weight": "Q4_1", "proj.weight": "Q4_0"}
    write_gguf(tmp_path / "m.gguf", small_model(), kinds)
    expected = read_by_transformers(tmp_path / "m.gguf")
    report = checkpoints.convert(tmp_path / "m.gguf", tmp_path / "packed", requantize=True, progress=False)
    assert sum(loss.how == "exact" for loss in report.losses) == 12
    assert sum(loss.how == "requantized" for loss in report.losses) == 2
    model = load(tmp_path / "packed")
    assert all(layer.packed_weights()[0].has_offsets for layer in packed_layers(model).values())
    assert_same(model, expected, tolerance=0.1)
    # Rows of q and k are in another order in the file: scales and offsets go with their rows.
    for name, layer in packed_layers(model).items():
        if "down_proj" not in name:
            weight = layer.packed_weights()[0].dequantize()
            assert torch.equal(weight, expected.get_parameter(f"{name}.weight")), name
