"""A decoder of transformers, run with as little around its linear layers as torch allows: for bench/decode.py.

q, k and v are one product and so are gate and up; K and V are not expanded to as many heads as q has; norms, residuals,
the rotation and the activation are compiled. Of lutsmith's layers, the products of o and down add the residual, where
no norm comes between, and that of gate and up applies the activation. It computes what the model of transformers
computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lutsmith.nn import GatedLinear, Linear


class Projections(NamedTuple):
    """The linear layers of a decoder layer, [..., in] -> [..., out]."""

    qkv: Callable[[Tensor], Tensor]
    o: Callable[[Tensor], Tensor]
    gate_up: Callable[[Tensor], Tensor]
    down: Callable[[Tensor], Tensor]


class Norms(NamedTuple):
    """Factors [hidden], in float32. `after_...`: of a layer's output, before it is added, where a model has that."""

    attention: Tensor
    after_attention: Tensor | None
    mlp: Tensor
    after_mlp: Tensor | None


def norm(x: Tensor, factor: Tensor, eps: float) -> Tensor:
    exact = x.float()
    return (exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + eps) * factor).to(x.dtype)


def add_and_norm(
    residual: Tensor, y: Tensor, after: Tensor | None, factor: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    residual = residual + (y if after is None else norm(y, after, eps))
    return residual, norm(residual, factor, eps)


def rotate_and_store(
    qkv: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, heads: int, kv_heads: int
) -> Tensor:
    """q [batch, heads, tokens, dim]; k and v go to `keys` and `values` [batch, kv_heads, tokens, dim]."""
    split = qkv.view(*qkv.shape[:2], heads + 2 * kv_heads, -1).transpose(1, 2)
    rotated = split[:, : heads + kv_heads]
    first, second = rotated.chunk(2, dim=-1)
    rotated = rotated * cos + torch.cat((-second, first), dim=-1) * sin
    keys.copy_(rotated[:, heads:])
    values.copy_(split[:, heads + kv_heads :])
    return rotated[:, :heads]


def gated(gate_up: Tensor, activation: str) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return (functional.silu(gate) if activation == "silu" else functional.gelu(gate, approximate="tanh")) * up


def capped_softmax(scores: Tensor, cap: float, dtype: torch.dtype) -> Tensor:
    return torch.softmax(torch.tanh(scores.float() / cap) * cap, dim=-1).to(dtype)


PIECES = {piece.__name__: piece for piece in (norm, add_and_norm, rotate_and_store, gated, capped_softmax)}
_compiled: dict[str, Callable] = {}


def pieces(compiled: bool) -> dict[str, Callable]:
    if compiled and not _compiled:
        torch._dynamo.config.cache_size_limit = 64  # one for each kind of shape
        _compiled.update({name: torch.compile(piece) for name, piece in PIECES.items()})
    return _compiled if compiled else PIECES


class LeanDecoder:
    """Llama, Qwen 2.5 and Gemma 2, of transformers' `model`, whose embedding, norms and head it shares."""

    def __init__(
        self, model: torch.nn.Module, projections: Sequence[Projections], batch: int, length: int, compiled: bool
    ) -> None:
        """length: the most tokens a sequence can have. A model of one layer lends its norms to as many as have
        `projections`."""
        config = model.config
        self.model, self.config, self.projections = model, config, projections
        self.head = model.lm_head
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        gemma = config.model_type == "gemma2"
        self.activation = "gelu" if gemma else "silu"
        factor = torch.tensor(config.hidden_size**0.5 if gemma else 1.0, dtype=model.dtype, device="cpu")
        self.embedding_factor = factor.item()  # rounded, as transformers does
        self.attention_cap = config.attn_logit_softcapping if gemma else None
        self.logits_cap = config.final_logit_softcapping if gemma else None
        self.scale = (config.query_pre_attn_scalar if gemma else self.dim) ** -0.5
        if gemma and length > config.sliding_window:
            raise ValueError(f"length: {length} given; allowed: at most the sliding window, {config.sliding_window}")
        self.norms = [_norms_of(layer, gemma) for layer in model.model.layers]
        if len(self.norms) == 1:
            self.norms *= len(projections)
        self.last_norm = _factor(model.model.norm, gemma)
        weight = model.model.embed_tokens.weight
        # K and V of each layer apart: of views of one tensor torch.compile would copy the whole of it.
        shape = (batch, self.kv_heads, length, self.dim)
        self.cache = [(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in self.norms]
        self.tokens = torch.zeros((batch, 1), dtype=torch.long, device=weight.device)
        positions = torch.arange(length, device=weight.device)[None]
        self.cos, self.sin = (table[0] for table in model.model.rotary_emb(weight[:1, None], positions))
        self._pieces = pieces(compiled)

    def forward(self, tokens: Tensor, position: int) -> Tensor:
        """Logits [batch, vocabulary] after the last of tokens [batch, count], the first of which is at `position`."""
        run = self._pieces
        eps = self.config.rms_norm_eps
        count = tokens.shape[1]
        new = slice(position, position + count)
        cos, sin = self.cos[new], self.sin[new]
        residual = self.model.model.embed_tokens.weight[tokens]
        if self.embedding_factor != 1:
            residual = residual * self.embedding_factor
        x = run["norm"](residual, self.norms[0].attention, eps)
        for i, (layer, norms) in enumerate(zip(self.projections, self.norms, strict=True)):
            keys, values = self.cache[i]
            q = run["rotate_and_store"](
                layer.qkv(x), cos, sin, keys[:, :, new], values[:, :, new], self.heads, self.kv_heads
            )
            mixed = self.attention(q, keys[:, :, : new.stop], values[:, :, : new.stop])
            mixed = mixed.transpose(1, 2).reshape(*tokens.shape, -1)
            residual, x = self.add(layer.o, mixed, residual, norms.after_attention, norms.mlp)
            inner = layer.gate_up(x)
            if not isinstance(layer.gate_up, GatedLinear):
                inner = run["gated"](inner, self.activation)
            following = self.norms[i + 1].attention if i + 1 < len(self.norms) else self.last_norm
            residual, x = self.add(layer.down, inner, residual, norms.after_mlp, following)
        logits = self.head(x[:, -1])
        return logits if self.logits_cap is None else torch.tanh(logits / self.logits_cap) * self.logits_cap

    def add(
        self, layer: Callable[[Tensor], Tensor], x: Tensor, residual: Tensor, after: Tensor | None, following: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The residual behind a layer, and the following norm of it."""
        eps = self.config.rms_norm_eps
        if after is None and isinstance(layer, Linear):
            residual = layer(x, residual)
            return residual, self._pieces["norm"](residual, following, eps)
        return self._pieces["add_and_norm"](residual, layer(x), after, following, eps)

    def attention(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[batch, heads, count, dim] for q of that shape; keys and values [batch, kv_heads, length, dim]."""
        count = q.shape[2]
        if self.attention_cap is None:
            return functional.scaled_dot_product_attention(
                q, keys, values, is_causal=count > 1, scale=self.scale, enable_gqa=True
            )
        # Heads that share K and V are rows of one product.
        grouped = q.reshape(q.shape[0], self.kv_heads, -1, self.dim)
        scores = grouped @ keys.transpose(2, 3) * self.scale
        if count > 1:
            later = torch.ones(count, keys.shape[2], dtype=torch.bool, device=q.device).triu(1)
            rows = later.repeat(self.heads // self.kv_heads, 1)
            weights = torch.tanh(scores.float() / self.attention_cap) * self.attention_cap
            weights = torch.softmax(weights.masked_fill(rows, float("-inf")), dim=-1).to(q.dtype)
        else:
            weights = self._pieces["capped_softmax"](scores, self.attention_cap, q.dtype)
        return (weights @ values).view(q.shape)

    def decode(self, position: int) -> Tensor:
        """Greedy: the next tokens are the last ones that it chose. Logits."""
        logits = self.forward(self.tokens, position)
        self.tokens.copy_(logits.argmax(-1, keepdim=True))
        return logits

    def only_linear(self, x: Tensor, attended: Tensor, gated: Tensor) -> None:
        """The products of a step and nothing else: x [..., hidden], attended [..., heads * dim], gated [..., mlp]."""
        for layer in self.projections:
            layer.qkv(x), layer.o(attended), layer.gate_up(x), layer.down(gated)
        self.head(x)

    def only_attention(self, q: Tensor, length: int) -> None:
        for keys, values in self.cache:
            self.attention(q, keys[:, :, :length], values[:, :, :length])


def _factor(module: torch.nn.Module, gemma: bool) -> Tensor:
    return module.weight.detach().float() + (1 if gemma else 0)


def _norms_of(layer: torch.nn.Module, gemma: bool) -> Norms:
    if not gemma:
        return Norms(
            _factor(layer.input_layernorm, False), None, _factor(layer.post_attention_layernorm, False), None
        )
    return Norms(
        _factor(layer.input_layernorm, True),
        _factor(layer.post_attention_layernorm, True),
        _factor(layer.pre_feedforward_layernorm, True),
        _factor(layer.post_feedforward_layernorm, True),
    )
