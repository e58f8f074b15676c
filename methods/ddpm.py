"""DDPM-OOD: how badly a diffusion model of the ID images reconstructs an image, from several noise levels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.base import CannotRun, Count, Features, Method, Positive, Range, Share, hold_out, register
from methods.device import memory
from methods.training.loop import seeded
from methods.training.loop import train as train_network
from methods.training.recipe import Recipe
from methods.vectors.noise import derive, normal

LEVELS = 1000  # of noise, 0 .. 999: diffusers' timesteps
_CALL_PIXELS = 1 << 19  # that the network sees in one call: 512 images of 32 x 32; bounds the memory of a score
_PICTURES, _PICTURE_STEPS = 16, 100


@register("ddpm")
@dataclass
class DDPM(Method):
    """Mean over start levels of the z-score of the squared error of a reconstruction from that level.

    An image x in 0..1 (each `stretch`ed from its minimum to its maximum) is noised to level t of 1,000,
    sqrt(a[t]) x + sqrt(1 - a[t]) noise, and denoised by a U-Net that predicts the noise, with a sampler that
    has `steps` of the levels: x~, clamped to 0..1. e_t = mean (x - x~)^2 over pixels; z_t = (e_t - mean) / std
    of the ID calibration images (`validation`; without it of a hold-out). The starts are every `skip`-th of the
    sampler's levels from its second on: 10, 170, .. 970 by default.

    The released code leaves out the repeated first step of PLMS, carries its history from one start to the
    next, and ends at a[0]; here each start is on its own and ends at a = 1. The paper adds LPIPS, which needs
    weights from elsewhere: left out. `width`: channels of the first of three levels, the others have twice
    as many. `ema`: cap of the decay of averaged weights, None for none, as published. Images: height and width
    multiples of 4.
    """

    title: ClassVar[str] = "DDPM"
    paper: ClassVar[str] = (
        "Graham et al., Denoising Diffusion Models for Out-of-Distribution Detection, CVPR Workshops 2023, "
        "https://arxiv.org/abs/2211.07740"
    )
    reads: ClassVar[tuple[str, ...]] = ("pixels",)
    score_only: ClassVar[tuple[str, ...]] = ("sampler", "steps", "skip")
    random_fit: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    sampler: Literal["plms", "ddim"] = "plms"
    steps: Annotated[int, Range(2, LEVELS)] = 100
    skip: Count = 16
    stretch: bool = True
    width: Count = 128
    epochs: Count = 300
    lr: Positive = 2.5e-5
    batch_size: Count = 512
    ema: Share | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 4:
            raise ValueError(f"ddpm: width must be a multiple of 4, not {self.width}")
        self._network: Any = None
        self._calibration: tuple[Tensor, Tensor] | None = None

    @property
    def starts(self) -> tuple[int, ...]:
        """The noise levels from which images are reconstructed, ascending."""
        return tuple(reversed(_sampler_levels(self.steps)))[1 :: self.skip]

    def fit(
        self,
        train: Features,
        *,
        seed: int = 0,
        device: str = "cpu",
        workdir: Path | None = None,
        precision: str = "32",
    ) -> Self:
        held = train.validation
        if held is None:
            kept, rows = hold_out(len(train))
            train, held = train[kept], train[rows]
        if len(held) < 2:
            raise CannotRun(f"needs 2 images to calibrate on, a hold-out of 30 training images; there are {len(held)}")
        pixels = train.need("pixels")
        _check_size(pixels)
        self._seed = seed
        self._held = Features(pixels=held.need("pixels"), index=held.index).to(device)
        self._calibration = None
        pixels = pixels.to(device)
        scheduler = _scheduler("ddim", LEVELS)

        def batch(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
            clean = _images(pixels[rows], self.stretch)
            level = torch.randint(LEVELS, rows.shape, generator=generator, device=clean.device)
            noise = torch.randn(clean.shape, generator=generator, device=clean.device)
            return scheduler.add_noise(clean, noise, level), level, noise

        def loss(network: nn.Module, noisy: Tensor, level: Tensor, noise: Tensor) -> Tensor:
            return functional.mse_loss(network(noisy, level, return_dict=False)[0].float(), noise)

        with seeded(derive(seed), device):
            self._network = unet(self.width)
        self.losses = train_network(
            self._network,
            batch,
            loss,
            len(pixels),
            Recipe(self.epochs, self.batch_size, "adam", self.lr, ema=self.ema),
            seed=seed,
            device=device,
            name="ddpm",
            workdir=workdir,
            precision=precision,
            capture=True,
        )
        return self

    def score(self, x: Features) -> Tensor:
        if x.need("pixels").shape[1:] != self._held.pixels.shape[1:]:
            size, here = (" x ".join(map(str, pixels.shape[1:3])) for pixels in (self._held.pixels, x.pixels))
            raise ValueError(f"fitted on images of {size}; these have {here}")
        calibration = self._calibration
        if calibration is None:  # not in `state`: it depends on the sampler, and the fit does not
            deviation, mean = torch.std_mean(self._held_errors(), dim=1, keepdim=True)
            calibration = self._calibration = mean, deviation
        mean, deviation = calibration
        return ((self.errors(x) - mean) / deviation).mean(dim=0)

    def _held_errors(self) -> Tensor:
        """`errors` of the held-out images, in half as large blocks as long as they do not fit in memory.

        Whoever scores in smaller blocks then cannot make these smaller.
        """
        rows = min(len(self._held), self._rows(self._held))
        while True:
            try:
                return torch.cat([self.errors(block) for block in self._held.blocks(rows)], dim=1)
            except RuntimeError as error:
                if rows == 1 or not memory.out_of_memory(error):
                    raise
            rows = (rows + 1) // 2

    def _rows(self, x: Features) -> int:
        height, width = map(int, x.pixels.shape[1:3])
        return max(1, _CALL_PIXELS // (height * width * len(self.starts)))

    def errors(self, x: Features) -> Tensor:
        """Mean squared error of the reconstruction from each of the starts (S, N), float64."""
        parts = []
        for block in x.blocks(self._rows(x)):
            clean = _images(block.pixels, self.stretch)
            difference = self.reconstruct(clean, block.index, self.starts) - clean
            parts.append(difference.square().flatten(2).mean(dim=2, dtype=torch.float64))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def reconstruct(self, clean: Tensor, index: Tensor, starts: Sequence[int]) -> Tensor:
        """Reconstructions (S, N, 3, H, W) of images `clean` (N, 3, H, W) in 0..1 from the noise levels `starts`.

        A start of 0 is the image itself: no noise and no step. The others must be levels of the sampler.
        """
        paths = []
        for start in starts:
            path = _Path.begin(self.sampler, self.steps, start)
            noise = normal(index, clean[0].numel(), seed=self._seed, stream=start).view_as(clean)
            level = torch.full((len(clean),), start, device=clean.device)
            path.x = path.scheduler.add_noise(clean, noise, level) if start else clean
            paths.append(path)
        self._denoise(paths)
        return torch.stack([path.x for path in paths]).clamp(0, 1)

    def _denoise(self, paths: "list[_Path]") -> None:
        """Bring all paths to their ends. Those that are at the same level share a call of the network."""
        while any(path.levels for path in paths):
            level = max(path.levels[0] for path in paths if path.levels)
            there = [path for path in paths if path.levels[:1] == [level]]
            predicted = self._network(torch.cat([path.x for path in there]), level, return_dict=False)[0]
            for path, noise in zip(there, predicted.chunk(len(there)), strict=True):
                path.x = path.scheduler.step(noise, level, path.x, return_dict=False)[0]
                del path.levels[0]

    @torch.no_grad()
    def pictures(self, x: Features) -> dict[str, Tensor]:
        """Samples (16, H, W, 3), and each of the first 8 images followed by its reconstructions; uint8."""
        clean = _images(x.need("pixels")[: _PICTURES // 2], self.stretch)
        back = self.reconstruct(clean, x.index[: len(clean)], self.starts)
        rows = torch.cat((clean[None], back)).transpose(0, 1).flatten(0, 1)
        return {"samples": _bytes(self._sample(clean.shape[1:], clean.device)), "reconstructions": _bytes(rows)}

    def _sample(self, shape: torch.Size, device: torch.device) -> Tensor:
        """New images by DDIM with eta 1, the sampler of DDPM in fewer steps: fresh noise mends its own errors."""
        index = torch.arange(_PICTURES, device=device)
        scheduler = _scheduler("ddim", _PICTURE_STEPS)

        def noise(stream: int) -> Tensor:
            return normal(index, shape.numel(), seed=self._seed, stream=stream).view(-1, *shape)

        x = noise(LEVELS)  # streams below are those of the starts
        for level in _sampler_levels(_PICTURE_STEPS):
            predicted = self._network(x, level, return_dict=False)[0]
            fresh = noise(LEVELS + 1 + level)
            x = scheduler.step(predicted, level, x, eta=1.0, variance_noise=fresh, return_dict=False)[0]
        return x

    def state(self) -> dict[str, Tensor]:
        return {
            "seed": torch.tensor(self._seed),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "held.pixels": self._held.pixels.cpu(),
            "held.index": self._held.index.cpu(),
            **{f"network.{name}": value.cpu() for name, value in self._network.state_dict().items()},
        }

    def load_state(self, state: Mapping[str, Tensor], *, device: str = "cpu") -> Self:
        self._seed, self.losses = int(state["seed"]), state["losses"].tolist()
        self._held = Features(pixels=state["held.pixels"], index=state["held.index"]).to(device)
        self._calibration = None
        with torch.device("meta"):  # no time spent on weights that are replaced at once
            self._network = unet(self.width)
        weights = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
        self._network.load_state_dict(weights, assign=True)
        self._network.to(device).eval()
        return self


@dataclass
class _Path:
    """Noised images `x` (N, 3, H, W) on their way to clean ones; the `levels` at which the network is still to be
    asked; and a scheduler of their own, for PLMS remembers the network's last answers."""

    scheduler: Any
    levels: list[int]
    x: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def begin(cls, sampler: str, steps: int, start: int) -> Self:
        """From level `start`; PLMS asks twice at its second level (its first step is an improved Euler step)."""
        levels = _sampler_levels(steps)
        if start not in (0, *levels):
            raise ValueError(f"a start is a level of the sampler: {', '.join(map(str, reversed(levels)))}; not {start}")
        levels = [level for level in levels if level <= start] if start else []
        return cls(_scheduler(sampler, steps), levels[:2] + levels[1:] if sampler == "plms" else levels)


def unet(width: int) -> Any:
    """diffusers' UNet2DModel in the published "small" form: 17,714,563 parameters at `width` 128.

    Three levels, one residual block each, attention at the last and below it (256 channels a head); group norm of at
    most 32 groups of at least 4 channels.
    """
    import diffusers  # takes seconds

    model: Any = diffusers.UNet2DModel
    return model(
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(width, 2 * width, 2 * width),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=min(256, 2 * width),
        norm_num_groups=math.gcd(32, width // 4),
    )


def _scheduler(sampler: str, steps: int) -> Any:
    """diffusers' scheduler with the published levels of noise, at its first step."""
    import diffusers

    kind: Any = diffusers.DDIMScheduler if sampler == "ddim" else diffusers.PNDMScheduler
    settings: dict[str, Any] = {
        "num_train_timesteps": LEVELS,
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "beta_schedule": "scaled_linear",
        "set_alpha_to_one": True,
        "timestep_spacing": "leading",
    }
    settings |= {"clip_sample": False} if sampler == "ddim" else {"skip_prk_steps": True}
    scheduler = kind(**settings)
    scheduler.set_timesteps(steps)
    return scheduler


def _sampler_levels(steps: int) -> list[int]:
    """The levels of a sampler of that many steps, descending to 0: 990, 980, .. 0 for 100."""
    stride = LEVELS // steps
    return list(range(stride * (steps - 1), -1, -stride))


def _images(pixels: Tensor, stretch: bool) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in 0..1; stretched: each from 0 to 1, one grey level to all 0."""
    x = pixels.permute(0, 3, 1, 2).float() / 255
    if not stretch:
        return x.contiguous()
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return ((x - low) / (high - low).clamp_min(1 / 255)).contiguous()


def _bytes(images: Tensor) -> Tensor:
    """The reverse: (N, 3, H, W) in 0..1 to uint8 (N, H, W, 3)."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def _check_size(pixels: Tensor) -> None:
    height, width = pixels.shape[1:3]
    if height % 4 or width % 4:
        raise CannotRun(f"ddpm halves its images twice: {height} x {width} are no multiples of 4; resize them")
