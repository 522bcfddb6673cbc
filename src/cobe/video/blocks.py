"""Building blocks of the VQ-VAE: normalisation, axial attention, residual block, strides."""

from __future__ import annotations

from einops import rearrange
from torch import nn
from torch.nn import functional as F

from cobe.core.config import VQVAEConfig
from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_FRAMES
from cobe.video.quantizer import check_quantizer


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


class StridedConv3d(nn.Conv3d):
    """A convolution that divides the grid by its strides exactly.

    Kernel 4 along an axis with stride 2 and `flat_kernel` along one with stride 1; a 4 there needs
    one more row of zeros in front than behind.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    stride : tuple of int
        1 or 2 over (time, height, width).
    flat_kernel : int
        3 or 4.
    """

    def __init__(self, n_in: int, n_out: int, stride, flat_kernel: int = 3):
        super().__init__(n_in, n_out, kernel_of(stride, flat_kernel), stride, padding=1)

    def forward(self, x):
        """Halve ``x (batch, channels, t, h, w)`` along the strided axes."""
        uneven = _uneven_axes(self)
        return super().forward(F.pad(x, _last_first(uneven, front=True)) if any(uneven) else x)


class StridedConvTranspose3d(nn.ConvTranspose3d):
    """The way back of `StridedConv3d`: doubles the grid along the strided axes."""

    def __init__(self, n_in: int, n_out: int, stride, flat_kernel: int = 3):
        super().__init__(n_in, n_out, kernel_of(stride, flat_kernel), stride, padding=1)

    def forward(self, x):
        """Double ``x (batch, channels, t, h, w)`` along the strided axes."""
        uneven, y = _uneven_axes(self), super().forward(x)
        if not any(uneven):
            return y
        return F.pad(y, [-n for n in _last_first(uneven, front=False)])


def kernel_of(stride, flat_kernel: int = 3) -> tuple[int, int, int]:
    """Kernel 4 where the stride is 2, else `flat_kernel`: sizes divide exactly with padding 1."""
    return tuple(4 if s == 2 else flat_kernel for s in stride)


def _uneven_axes(convolution) -> list[int]:
    """1 for each axis that a kernel of 4 walks along without a stride."""
    pairs = zip(convolution.kernel_size, convolution.stride, strict=True)
    return [int(kernel == 4 and stride == 1) for kernel, stride in pairs]


def _last_first(rows, front: bool) -> list[int]:
    """Rows per axis as `torch.nn.functional.pad` takes them: last axis first, (front, back)."""
    return [n for row in reversed(rows) for n in ((row, 0) if front else (0, row))]


def check_config(cfg: VQVAEConfig) -> None:
    """Raise CobeError when no network can be built from these settings."""
    size = (CLIP_FRAMES, cfg.resolution, cfg.resolution)
    for axis, n, stride in zip(("time", "height", "width"), size, cfg.downsample, strict=True):
        if stride < 1 or stride & (stride - 1):
            raise CobeError(
                f"VQVAEConfig.downsample: stride {stride} over {axis}; take a power of two"
            )
        if n % stride:
            raise CobeError(
                f"VQVAEConfig.downsample: stride {stride} over {axis} does not divide its {n} "
                "samples; choose a stride that does"
            )
    if cfg.n_hiddens < 4 or cfg.n_hiddens % 4:
        raise CobeError(f"VQVAEConfig.n_hiddens: {cfg.n_hiddens}; take a positive multiple of 4")
    if not 2 <= cfg.n_codes <= 65536:
        raise CobeError(
            f"VQVAEConfig.n_codes: {cfg.n_codes}; a uint16 token holds 2 to 65536 codes"
        )
    if cfg.flat_kernel not in (3, 4):
        raise CobeError(f"VQVAEConfig.flat_kernel: {cfg.flat_kernel}; choose 3 or 4")
    check_quantizer(cfg)
