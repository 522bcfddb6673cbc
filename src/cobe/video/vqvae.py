"""VQ-VAE in the manner of VideoGPT: a clip of pixels to a small grid of discrete codes and back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cobe.core.config import VQVAEConfig
from cobe.core.errors import CobeError
from cobe.core.seeds import seed_for
from cobe.video.blocks import (
    AttentionResidualBlock,
    ChannelNorm,
    StridedConv3d,
    StridedConvTranspose3d,
    check_config,
    stages_of,
)
from cobe.video.device import float32
from cobe.video.quantizer import build_quantizer

# Clips go through the network in padded groups of this size, whatever the caller's batch: a
# matrix product may round differently for another number of rows, and a token could then change.
GROUP_CLIPS = 16
# Weight of a pixel in the loss: 1 + BRIGHT_WEIGHT x its distance from the median frame. Plain
# squared error learns a black screen, because small bright objects are a few per cent of it.
BRIGHT_WEIGHT = 20.0
UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, LookupError, RecursionError)


class VQVAE(nn.Module):
    """Clips of pixels to a grid of codes and back.

    Attributes
    ----------
    cfg : VQVAEConfig
        Shape and training settings.
    median_frame, mean_frame : Tensor, float32 (3, height, width)
        Of the training clips, in 0..1.
    background_error : Tensor, float32 scalar
        Weighted squared error of the median frame on training clips; the unit of the loss.

    Notes
    -----
    After Yan et al. 2021 (arXiv 2104.10157): strided 3-D convolutions, attention residual blocks,
    codebook by exponential moving averages, or finite scalars. Layer instead of batch normalisation
    (a token then depends on its clip alone), k-means start and replacement of dead codes by
    `vector_quantize_pytorch`. Any strides of powers of two that divide a clip; any clip length that
    the time stride divides. Parameters by part are those of VideoGPT at equal settings (with
    ``flat_kernel`` 4; `count_vqvae_parameters`).
    """

    def __init__(self, cfg: VQVAEConfig):
        super().__init__()
        check_config(cfg)
        self.cfg = cfg
        d, stages = cfg.n_hiddens, stages_of(cfg.downsample)
        down = []
        for i, stride in enumerate(stages):
            down += [StridedConv3d(d if i else 3, d, stride, cfg.flat_kernel), nn.ReLU()]
        self.encoder = nn.Sequential(
            *down,
            nn.Conv3d(d if stages else 3, d, 3, padding=1),
            *(AttentionResidualBlock(d) for _ in range(cfg.n_res_blocks)),
            ChannelNorm(d),
            nn.ReLU(),
            nn.Conv3d(d, cfg.code_dim, 1),
        )
        up = []
        for i, stride in enumerate(reversed(stages)):
            last = i == len(stages) - 1
            up += [StridedConvTranspose3d(d, 3 if last else d, stride, cfg.flat_kernel)]
            up += [] if last else [nn.ReLU()]
        self.decoder = nn.Sequential(
            nn.Conv3d(cfg.code_dim, d, 1),
            *(AttentionResidualBlock(d) for _ in range(cfg.n_res_blocks)),
            ChannelNorm(d),
            nn.ReLU(),
            *(up or [nn.Conv3d(d, 3, 3, padding=1)]),
        )
        self.quantize = build_quantizer(cfg, cfg.batch_size * int(np.prod(self.grid)))
        frame = (3, cfg.resolution, cfg.resolution)
        self.register_buffer("median_frame", torch.zeros(frame))
        self.register_buffer("mean_frame", torch.zeros(frame))
        self.register_buffer("background_error", torch.ones(()))
        self.to(memory_format=torch.channels_last_3d)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens of one 16-frame clip over (time, height, width)."""
        return self.cfg.grid

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.median_frame.device

    def codebook(self) -> np.ndarray:
        """The code vectors, float32 ``(n_codes, code_dim)``; of FSQ, those of all indices."""
        return self.quantize.codebook.detach().float().cpu().numpy().copy()

    def identity(self) -> str:
        """A hash of settings and weights, which tokens carry so as to be known as this model's."""
        digest = hashlib.sha256(json.dumps(asdict(self.cfg), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def set_statistics(self, clips: np.ndarray) -> None:
        """Store median frame, mean frame and background error of training clips.

        Parameters
        ----------
        clips : uint8 (n, n_frames, height, width, 3)
            A sample of the training clips.
        """
        frames = clips[:, :: self.cfg.downsample[0]].reshape(-1, *clips.shape[2:])
        median = np.median(frames, axis=0).astype(np.float32) / 255
        mean = frames.mean(axis=0, dtype=np.float64).astype(np.float32) / 255
        self.median_frame.copy_(torch.from_numpy(median).permute(2, 0, 1))
        self.mean_frame.copy_(torch.from_numpy(mean).permute(2, 0, 1))
        weighted = [
            self.weighted_error(x, self.median_frame[None, :, None]).item()
            for x in map(self.pixels, np.array_split(clips, max(1, len(clips) // 16)))
        ]
        # An all-black sample has no background error; 1 leaves the loss as it is.
        self.background_error.fill_(float(np.mean(weighted)) or 1.0)

    def pixels(self, clips) -> torch.Tensor:
        """Clips as the network's input.

        Parameters
        ----------
        clips : uint8 (n, n_frames, height, width, 3)
            As the frame store hands them out.

        Returns
        -------
        x : Tensor, float32 (n, 3, n_frames, height, width)
            In 0..1, channels last in memory.

        Raises
        ------
        CobeError
            Another type, frame size, or a number of frames that the time stride does not divide.
        """
        return self._checked(clips).to(self.device).movedim(-1, 1).float().div_(255)

    def _checked(self, clips) -> torch.Tensor:
        """Clips as a uint8 tensor, of a type and size that the network takes."""
        side, stride = self.cfg.resolution, self.cfg.downsample[0]
        wanted = f"uint8 (n, a multiple of {stride}, {side}, {side}, 3)"
        shape, kind = tuple(clips.shape), str(clips.dtype).removeprefix("torch.")
        if kind != "uint8" or len(shape) != 5 or shape[2:] != (side, side, 3) or shape[1] % stride:
            raise CobeError(
                f"clips: {kind} {shape}, but this VQ-VAE takes {wanted}; "
                "decode the frames at the model's resolution, or train a VQ-VAE for them"
            )
        if isinstance(clips, np.ndarray):
            clips = torch.from_numpy(np.require(clips, requirements=["C", "W"]))
        return clips

    def weighted_error(self, x, y) -> torch.Tensor:
        """Mean squared error of ``y`` against ``x``, weighted by distance from the median frame."""
        from_median = (x - self.median_frame[:, None]).abs().amax(1, keepdim=True)
        return ((1 + BRIGHT_WEIGHT * from_median) * (x - y).square()).mean()

    def latents(self, x) -> torch.Tensor:
        """Continuous latents ``(n, code_dim, t, h, w)`` of pixels ``(n, 3, n_frames, h, w)``."""
        return self.encoder(x - self.median_frame[:, None])

    def reconstruct(self, codes) -> torch.Tensor:
        """Pixels ``(n, 3, n_frames, height, width)`` of code vectors ``(n, code_dim, t, h, w)``."""
        return self.decoder(codes) + self.median_frame[:, None]

    def forward(self, x):
        """One training pass.

        Parameters
        ----------
        x : Tensor, float32 (n, 3, n_frames, height, width)
            Pixels in 0..1.

        Returns
        -------
        y : Tensor, like x
            Reconstruction.
        commitment : Tensor, scalar
            Weighted commitment loss.
        tokens : Tensor, int64 (n, t, h, w)
            Codes in use.
        """
        z = self.latents(x)
        # Distances in float32: under bfloat16 autocast about 3 % of the tokens change.
        with torch.autocast(z.device.type, enabled=False):
            codes, tokens, commitment = self.quantize(z.float())
        return self.reconstruct(codes).float(), commitment, tokens

    @torch.no_grad()
    def encode(self, clips) -> np.ndarray:
        """Tokens of clips, in evaluation mode and float32.

        Parameters
        ----------
        clips : uint8 (n, n_frames, height, width, 3)
            Any number of clips; those of one call are held in memory.

        Returns
        -------
        tokens : uint16 (n, t, h, w)
            Equal bytes whatever the number of clips in a call.

        Raises
        ------
        CobeError
            Clips of another type or size than the model's.
        """
        self.eval()
        clips = self._checked(clips)
        grid = (clips.shape[1] // self.cfg.downsample[0], *self.grid[1:])
        tokens = np.empty((len(clips), *grid), np.uint16)
        # One buffer for all groups, in the clips' own layout: else a tenth of the encoder's time.
        group = torch.empty((GROUP_CLIPS, *clips.shape[1:]), device=self.device)
        median = self.median_frame.movedim(0, -1).contiguous()
        with float32(self.device):
            for start in range(0, len(clips), GROUP_CLIPS):
                part = clips[start : start + GROUP_CLIPS]
                group[: len(part)] = part.to(self.device)
                group[len(part) :] = group[0]
                x = group.div_(255).sub_(median).movedim(-1, 1)
                codes = self.quantize.nearest(self.encoder(x))
                tokens[start : start + len(part)] = codes[: len(part)].cpu().numpy()
        return tokens

    @torch.no_grad()
    def decode(self, tokens) -> np.ndarray:
        """Clips of tokens.

        Parameters
        ----------
        tokens : int (n, t, h, w)
            Codes below ``n_codes``.

        Returns
        -------
        clips : uint8 (n, n_frames, height, width, 3)

        Raises
        ------
        CobeError
            A code beyond the codebook, or another grid over height and width than the model's.
        """
        self.eval()
        tokens, side = np.asarray(tokens), self.cfg.resolution
        if tokens.ndim != 4 or tokens.shape[2:] != self.grid[1:]:
            raise CobeError(
                f"tokens: {tokens.shape}, but this VQ-VAE decodes (n, t, {self.grid[1]}, "
                f"{self.grid[2]}); use the VQ-VAE that made them"
            )
        clips = np.empty((len(tokens), tokens.shape[1] * self.cfg.downsample[0], side, side, 3),
                         np.uint8)  # fmt: skip
        for start in range(0, len(tokens), GROUP_CLIPS):
            codes = torch.from_numpy(self.codes(tokens[start : start + GROUP_CLIPS]))
            with float32(self.device):
                y = self.reconstruct(codes.to(self.device).movedim(-1, 1))
            pixels = (y.clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1)
            clips[start : start + len(codes)] = pixels.cpu().numpy()
        return clips

    def codes(self, tokens) -> np.ndarray:
        """Code vectors of tokens ``(n, t, h, w)``: float32 ``(n, t, h, w, code_dim)``.

        Raises
        ------
        CobeError
            A code beyond the codebook.
        """
        tokens = np.asarray(tokens)
        if tokens.size and tokens.max() >= self.cfg.n_codes:
            raise CobeError(
                f"tokens: code {tokens.max()}, but this VQ-VAE has {self.cfg.n_codes} codes; "
                "use the VQ-VAE that made them"
            )
        return self.codebook()[tokens.astype(np.int64)]

    def save(self, path) -> None:
        """Write ``config.json`` and ``model.safetensors``, the codebook in it, to a folder."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        weights = {k: v.contiguous() for k, v in self.state_dict().items()}
        save_file(weights, path / "model.safetensors")
        (path / "config.json").write_text(json.dumps(asdict(self.cfg), indent=1) + "\n")

    @classmethod
    def load(cls, path) -> VQVAE:
        """The model that `save` wrote, in evaluation mode.

        Raises
        ------
        CobeError
            The folder holds no VQ-VAE, or weights of another shape than its settings say.
        """
        path = Path(path)
        try:
            settings = dict(json.loads((path / "config.json").read_text()))
            # JSON has no tuples
            cfg = VQVAEConfig(
                **{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
            )
            _check_types(cfg)
            weights = load_file(path / "model.safetensors")
            _check_size(cfg, weights)
        except UNREADABLE as error:
            raise CobeError(
                f"{path}: no readable VQ-VAE ({error}); train and save it again"
            ) from error
        model = cls(cfg)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CobeError(
                f"{path}: weights do not fit config.json ({reason}); train and save it again"
            ) from error
        return model.eval()


def _check_types(cfg: VQVAEConfig) -> None:
    """Refuse settings of another type than the defaults'."""
    for field in fields(cfg):
        value, usual = getattr(cfg, field.name), field.default
        fits = type(value) is type(usual) or (isinstance(usual, float) and type(value) is int)
        if isinstance(value, tuple):
            fits = fits and all(type(item) is int for item in value)
            fits = fits and (not usual or len(value) == len(usual))
        if not fits:
            raise ValueError(f"{field.name} is {value!r}, not as {usual!r}")


def _check_size(cfg: VQVAEConfig, weights: dict[str, torch.Tensor]) -> None:
    """Refuse settings of a network far larger than the weights beside them, before it is built."""
    n_numbers = sum(value.numel() for value in weights.values())
    fits = (
        cfg.n_hiddens**2 <= n_numbers
        and cfg.code_dim <= n_numbers
        and (cfg.quantizer != "vq" or cfg.n_codes * cfg.code_dim <= n_numbers)
        and cfg.n_res_blocks <= len(weights)
        and cfg.resolution <= 2**16
        and cfg.batch_size <= 2**20
    )
    if not fits:
        raise ValueError(f"its settings ask for more than the {n_numbers} numbers of its weights")


def build_vqvae(cfg: VQVAEConfig) -> VQVAE:
    """A VQ-VAE with initial weights from ``cfg.seed``; the global random state is left as it was.

    Raises
    ------
    CobeError
        Settings from which no network can be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(cfg.seed, "vqvae", "weights"))
        return VQVAE(cfg)


def count_vqvae_parameters(model: VQVAE) -> dict[str, int]:
    """Parameters by part.

    Returns
    -------
    counts : dict
        ``total`` of all trained parameters; ``encoder`` and ``decoder`` (strided convolutions,
        attention residual blocks, final norm), ``to_codes`` and ``from_codes`` (the 1 x 1
        convolutions on either side of the codes, with FSQ's own projections in ``to_codes``), and,
        outside the total, ``codebook``: the numbers of a codebook that is a moving average and not
        trained by gradients (0 with FSQ).
    """

    def count(*parts):
        return sum(p.numel() for part in parts for p in part.parameters())

    counts = {
        "encoder": count(model.encoder[:-1]),
        "to_codes": count(model.encoder[-1], model.quantize),
        "from_codes": count(model.decoder[0]),
        "decoder": count(model.decoder[1:]),
    }
    cfg = model.cfg
    codebook = cfg.n_codes * cfg.code_dim if cfg.quantizer == "vq" else 0
    return {"total": sum(counts.values()), **counts, "codebook": codebook}
