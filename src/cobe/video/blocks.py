"""Building blocks of the VQ-VAE: normalisation, axial attention, residual block, strides."""

from __future__ import annotations

from einops import rearrange
from torch import nn
from torch.nn import functional as F


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a channel-first tensor."""

    def forward(self, x):
        """Normalise ``x (batch, channels, t, h, w)`` over its channels."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class AxialAttention(nn.Module):
    """Multi-head attention along one axis of the grid, every other axis kept apart.

    Parameters
    ----------
    n_hiddens : int
        Channels.
    axis : int
        0 time, 1 height, 2 width.
    n_heads : int
        Attention heads.
    """

    def __init__(self, n_hiddens: int, axis: int, n_heads: int = 2):
        super().__init__()
        self.n_heads = n_heads
        self.pattern = ("b (g c) t h w -> (b h w) g t c", "b (g c) t h w -> (b t w) g h c",
                        "b (g c) t h w -> (b t h) g w c")[axis]  # fmt: skip
        self.qkv = nn.Conv3d(n_hiddens, 3 * n_hiddens, 1, bias=False)
        self.project = nn.Conv3d(n_hiddens, n_hiddens, 1)

    def forward(self, x):
        """Attend within ``x (batch, channels, t, h, w)`` along the axis; the same shape."""
        b, _, t, h, w = x.shape
        split = (rearrange(part, self.pattern, g=self.n_heads) for part in self.qkv(x).chunk(3, 1))
        attended = F.scaled_dot_product_attention(*split)
        left, right = self.pattern.split(" -> ")
        return self.project(rearrange(attended, f"{right} -> {left}", b=b, t=t, h=h, w=w))


class AttentionResidualBlock(nn.Module):
    """VideoGPT's block: a bottleneck convolution, then axial attention over time, height, width."""

    def __init__(self, n_hiddens: int):
        super().__init__()
        self.convolve = nn.Sequential(
            ChannelNorm(n_hiddens),
            nn.ReLU(),
            nn.Conv3d(n_hiddens, n_hiddens // 2, 3, padding=1, bias=False),
            ChannelNorm(n_hiddens // 2),
            nn.ReLU(),
            nn.Conv3d(n_hiddens // 2, n_hiddens, 1, bias=False),
            ChannelNorm(n_hiddens),
            nn.ReLU(),
        )
        self.attend = nn.ModuleList(AxialAttention(n_hiddens, axis) for axis in range(3))

    def forward(self, x):
        """Add the block's output to ``x (batch, channels, t, h, w)``."""
        y = self.convolve(x)
        return x + sum(attend(y) for attend in self.attend)


def stages_of(downsample) -> list[tuple[int, int, int]]:
    """Strides of the convolutions: 2 along an axis until its downsampling is reached."""
    left, stages = list(downsample), []
    while max(left) > 1:
        stages.append(tuple(2 if n > 1 else 1 for n in left))
        left = [n // s for n, s in zip(left, stages[-1], strict=True)]
    return stages


def kernel_of(stride) -> dict:
    """Kernel 4 where the stride is 2, and 3 where it is 1: sizes divide exactly with padding 1."""
    return {
        "kernel_size": tuple(4 if s == 2 else 3 for s in stride),
        "stride": stride,
        "padding": 1,
    }
