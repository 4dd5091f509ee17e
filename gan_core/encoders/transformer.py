"""Transformer decoder layers with post-norm and without positional encoding (Hu et al. 2022, section 3.2)."""

import torch
from torch import Tensor, nn


class DecoderLayer(nn.Module):
    """Self-attention of the queries, cross-attention to a memory, and a feed-forward network, each with post-norm.

    ``forward(queries [B, Q, dim], memory [B, M, memory_dim])`` -> ``[B, Q, dim]``. The published layer has 4 heads, an
    inner width of ``2 dim`` and ``memory_dim = dim``.
    """

    def __init__(self, dim: int = 512, memory_dim: int | None = None, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        memory_dim = memory_dim or dim
        self.self_attn = nn.MultiheadAttention(dim, heads, dropout)
        self.multihead_attn = nn.MultiheadAttention(dim, heads, dropout, kdim=memory_dim, vdim=memory_dim)
        self.linear1 = nn.Linear(dim, 2 * dim)
        self.linear2 = nn.Linear(2 * dim, dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        x = self.attend_self(queries)
        attended = attend(self.multihead_attn, x, memory)
        x = self.norm2(x + self.dropout(attended))
        inner = self.linear2(self.dropout(torch.relu(self.linear1(x))))
        return self.norm3(x + self.dropout(inner))

    def attend_self(self, queries: Tensor) -> Tensor:
        """Return the self-attention part of the layer for ``queries [B, Q, dim]``, ``[B, Q, dim]``."""
        attended = attend(self.self_attn, queries, queries)
        return self.norm1(queries + self.dropout(attended))


def attend(attention: nn.MultiheadAttention, queries: Tensor, memory: Tensor) -> Tensor:
    """Return the attention ``[B, Q, dim]`` of ``queries [B, Q, dim]`` to ``memory [B, M, memory_dim]``.

    Inputs are made contiguous with the sequence first. Otherwise PyTorch copies the weights for each position.
    """
    first, second = (x.transpose(0, 1).contiguous() for x in (queries, memory))
    return attention(first, second, second, need_weights=False)[0].transpose(0, 1)
