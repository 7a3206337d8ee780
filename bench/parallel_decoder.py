"""The lean decoder, split over several GPUs: for bench/parallel_decode.py.

Each rank has as many heads of q, k and v, rows of gate and up, and tokens of the head as the others, and the columns
of o and down that take their results: these two are summed over the ranks, twice in a layer. lutsmith's weights are
quantized whole and cut afterwards (lutsmith.tensor_parallel), so that any number of ranks multiplies by the same ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from decoder_weights import MEMBERS, SINGLE, configuration, random_model, symmetric_table
from lean_decoder import LeanDecoder, Projections
from torch import Tensor, distributed
from torch.nn import functional

import lutsmith
from lutsmith import tensor_parallel
from lutsmith.nn import Linear


class Rank(NamedTuple):
    index: int
    ranks: int

    def part(self, size: int, multiple: int = 1) -> slice:
        return slice(*tensor_parallel.even_part(size, self.index, self.ranks, multiple))

    def sum(self, y: Tensor) -> None:
        if self.ranks > 1:
            distributed.all_reduce(y)

    def gather(self, x: Tensor) -> Tensor:
        """[ranks, ...] of x [...] of each."""
        if self.ranks == 1:
            return x[None]
        every = x.new_empty((self.ranks * x.shape[0], *x.shape[1:]))
        distributed.all_gather_into_tensor(every, x.contiguous())
        return every.view(self.ranks, *x.shape)


class Summed(NamedTuple):
    """A layer of which each rank has columns, and so a share of the result."""

    share: Callable[[Tensor], Tensor]
    rank: Rank

    def __call__(self, x: Tensor) -> Tensor:
        y = self.share(x)
        self.rank.sum(y)
        return y


class ParallelWeights(NamedTuple):
    """A rank's part of all linear layers."""

    name: str
    lean: list[Projections]
    packed: list[lutsmith.PackedWeight]  #: of one layer
    bytes: int


def checked_configuration(model: str, layers: int | None, ranks: int):
    """Raises ValueError where ranks could not have equal parts."""
    config = configuration(model, layers)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    for what, size in (("heads", heads), ("heads of K and V", kv_heads), ("inner rows", config.intermediate_size)):
        if size % ranks:
            raise ValueError(f"{model} has {size} {what}, which {ranks} GPUs cannot share evenly")
    return config


class Shard:
    """A rank's part of a model: `model` has one layer, whose projections are whole, and this rank's part of the head."""

    def __init__(self, name: str, layers: int | None, rank: Rank, dtype: torch.dtype, device: torch.device) -> None:
        config = checked_configuration(name, layers, rank.ranks)
        self.rank = rank
        self.layers = config.num_hidden_layers
        self.dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        one = copy.deepcopy(config)
        one.num_hidden_layers = 1
        if getattr(one, "layer_types", None):
            one.layer_types = one.layer_types[:1]
        self.model = random_model(one, dtype, device)  # of the same numbers on every rank
        self.whole = dict(self.model.model.layers[0].named_modules())
        of_head = rank.part(config.vocab_size)
        self.first_token = of_head.start
        self.model.lm_head.weight = torch.nn.Parameter(
            self.model.lm_head.weight[of_head].clone(), requires_grad=False
        )
        # What LeanDecoder reads of it are this rank's heads.
        self.model.config = copy.deepcopy(one)
        self.model.config.head_dim = self.dim
        self.model.config.num_attention_heads //= rank.ranks
        self.model.config.num_key_value_heads //= rank.ranks
        self.inner = config.intermediate_size // rank.ranks

    def rows(self, name: str) -> slice:
        linear = self.whole[name]
        return self.rank.part(linear.out_features, self.dim if name.startswith("self_attn") else 1)

    def columns(self, name: str) -> slice:
        linear = self.whole[name]
        return self.rank.part(linear.in_features, self.dim if name.startswith("self_attn") else 1)

    def bias(self, names: tuple[str, ...]) -> Tensor | None:
        if self.whole[names[0]].bias is None:
            return None
        return torch.cat([self.whole[name].bias[self.rows(name)] for name in names])

    def with_16_bits(self) -> ParallelWeights:
        def together(names: tuple[str, ...]) -> tuple[Tensor, Tensor | None]:
            return torch.cat([self.whole[name].weight[self.rows(name)] for name in names]), self.bias(names)

        first = {kind: together(names) for kind, names in MEMBERS.items()}
        first |= {kind: (self.whole[name].weight[:, self.columns(name)], None) for kind, name in SINGLE.items()}
        lean = []
        for _ in range(self.layers):
            layer = {}
            for kind, (weight, bias) in first.items():
                weight = weight.clone(memory_format=torch.contiguous_format)
                layer[kind] = lambda x, weight=weight, bias=bias: functional.linear(x, weight, bias)
            lean.append(self._projections(layer))
        total = self.layers * sum(weight.nbytes for weight, _ in first.values())
        return ParallelWeights("16 bits", lean, [], total)

    def with_lutsmith(self, bits: int, group: int) -> ParallelWeights:
        def packed(name: str) -> lutsmith.PackedWeight:
            return lutsmith.quantize(self.whole[name].weight, bits=bits, group=group, table=symmetric_table(bits))

        def rows(name: str) -> lutsmith.PackedWeight:
            part = self.rows(name)
            return tensor_parallel.rows(packed(name), part.start, part.stop)

        def columns(name: str) -> tensor_parallel.ColumnPart:
            part = self.columns(name)
            return tensor_parallel.columns(packed(name), part.start, part.stop)

        together = {kind: lutsmith.concatenate([rows(name) for name in names]) for kind, names in MEMBERS.items()}
        shares = {kind: columns(name) for kind, name in SINGLE.items()}
        lean = []
        for _ in range(self.layers):
            layer: dict[str, Callable[[Tensor], Tensor]] = {}
            for kind, weight in together.items():
                layer[kind] = Linear(_copied(weight), self.bias(MEMBERS[kind]))
            for kind, share in shares.items():
                layer[kind] = share._replace(weight=_copied(share.weight)).matmul
            lean.append(self._projections(layer))
        one = [*together.values(), *(share.weight for share in shares.values())]
        return ParallelWeights(f"lutsmith {bits} bits", lean, one, self.layers * sum(weight.nbytes for weight in one))

    def _projections(self, layer: dict[str, Callable[[Tensor], Tensor]]) -> Projections:
        for kind in SINGLE:
            layer[kind] = Summed(layer[kind], self.rank)
        return Projections(**layer)

    def all_weights(self, bits: list[int], group: int) -> Iterator[ParallelWeights]:
        yield self.with_16_bits()
        for number in bits:
            yield self.with_lutsmith(number, group)


def _copied(weight: lutsmith.PackedWeight) -> lutsmith.PackedWeight:
    return lutsmith.PackedWeight(weight.data.clone(), weight.format)


class ParallelDecoder(LeanDecoder):
    """Its logits are those of the tokens that the rank's part of the head has."""

    def __init__(self, shard: Shard, weights: ParallelWeights, batch: int, length: int, compiled: bool) -> None:
        super().__init__(shard.model, weights.lean, batch, length, compiled)
        self.rank = shard.rank
        self.first_token = shard.first_token

    def decode(self, position: int) -> Tensor:
        logits = self.forward(self.tokens, position)
        best, token = logits.max(-1)
        # As float64, which holds any token's number.
        mine = torch.stack((best.double(), (token + self.first_token).double()), dim=-1)
        every = self.rank.gather(mine)  # [ranks, batch, 2]
        winner = every[..., 0].argmax(0)
        self.tokens.copy_(every[..., 1].gather(0, winner[None])[0, :, None].long())
        return logits

    def only_linear(self, x: Tensor, attended: Tensor, gated: Tensor) -> None:
        """Without the sums."""
        for layer in self.projections:
            layer.qkv(x), layer.o.share(attended), layer.gate_up(x), layer.down.share(gated)
        self.head(x)

    def only_sums(self, y: Tensor) -> None:
        """y [..., hidden], which becomes the sum of all ranks' over and over: give zeros."""
        for _ in self.projections:
            self.rank.sum(y)
            self.rank.sum(y)
