"""bench/quantize_model.py: every layer is packed, and stands for what was packed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import quantize_model

SMALL = "--model tiny --layers 1 --device cpu --tokens 64 --length 32 --sequences 1 --group 32".split()


def test_every_layer_is_packed_and_timed(tmp_path, capsys):
    quantize_model.main([*SMALL, "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    # q and o 128 x 128, k and v 64 x 128, gate, up and down 256 x 128: 4 bits each, and 16 for every group of 32.
    weights = 2 * 128 * 128 + 2 * 64 * 128 + 3 * 256 * 128
    assert [(row["method"], row["weights"], row["tokens"]) for row in rows] == [("nf", weights, 0), ("gptq+nf", weights, 64)]
    for row in rows:
        assert weights * 4.5 / 8 <= row["packed_bytes"] < weights * 4.6 / 8
        assert row["seconds"] > 0 and row["peak_host_bytes"] > row["packed_bytes"]
    assert capsys.readouterr().out.count("4 bits, groups of 32") == 2


@pytest.mark.parametrize("method", quantize_model.METHODS)
def test_a_layer_takes_over_what_its_bytes_stand_for(method):
    import torch
    from decoder_weights import configuration, random_model

    import lutsmith

    model = random_model(configuration("tiny", 1), torch.float16, torch.device("cpu"))
    before = {name: layer.weight.clone() for name, layer in quantize_model.packable_layers(model).items()}
    given = quantize_model.parsed(SMALL)
    for name, data in quantize_model.packed_by(method, model, given):
        weight = model.get_submodule(name).weight
        line = lutsmith.quantize(before[name], bits=4, group=32).format
        assert weight.equal(lutsmith.PackedWeight(data, line).dequantize(torch.float16)), name
        assert not weight.equal(before[name])


def test_less_than_a_sequence_is_refused(capsys):
    with pytest.raises(SystemExit):
        quantize_model.main(["--tokens", "5", "--length", "32"])
    assert "--tokens 5: allowed: at least one sequence, --length 32" in capsys.readouterr().err
