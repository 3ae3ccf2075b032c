"""A classifier of noisy images: the U-Net's way down, told the time, under a linear head."""

from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, silu

from labkit.base.inputs import takes, whole, wholes
from labkit.base.shapes import check_images, check_time
from labkit.nn.embeddings import Conditioning
from labkit.nn.unet import ResidualBlock, group_norm


class NoisyClassifier(nn.Module):
    """log p_t(y | x) up to a constant: `forward(x, t)`, x (B, channels, H, W) and t (B,), to logits (B, num_classes).

    It is made for `classifier_guided`, which asks for its gradient in x, and trained by `noisy_classification_loss`.
    Each of `widths`, multiples of 8, is a level of one residual block, half as high and wide as the one before; `size`
    is the height and width of the images, divisible by patch * 2**(levels - 1). `patch` and `emb_dim` as in `UNet`.
    Diffusion Models Beat GANs on Image Synthesis (2021), section 4, made small.
    """

    @takes(channels=whole(1), num_classes=whole(1), size=whole(1), widths=wholes(8), patch=whole(1), emb_dim=whole(2))
    def __init__(
        self,
        channels: int = 1,
        num_classes: int = 10,
        *,
        size: int = 32,
        widths: tuple[int, ...] = (16, 32, 64),
        patch: int = 2,
        emb_dim: int = 64,
    ) -> None:
        super().__init__()
        smallest = patch * 2 ** (len(widths) - 1)
        if any(width % 8 for width in widths) or size % smallest:
            raise ValueError(f"widths must be multiples of 8, and size one of {smallest}; got {widths} and {size}")
        self.channels, self.size, self.patch, self.num_classes, self.null = channels, size, patch, num_classes, None
        self.conditioning = Conditioning(emb_dim, None)
        self.stem = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        below = (widths[0], *widths[:-1])
        self.blocks = nn.ModuleList(ResidualBlock(c, width, emb_dim) for c, width in zip(below, widths, strict=True))
        self.downsample = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.norm = group_norm(widths[-1])
        self.head = nn.Linear(widths[-1] * (size // smallest) ** 2, num_classes)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        check_images(x, self.channels, self.head.weight)
        if x.shape[2:] != (self.size, self.size):
            raise ValueError(f"x must be images of {self.size} by {self.size} pixels; got {tuple(x.shape)}")
        check_time(t, x)
        emb = self.conditioning(t, None)  # (B, emb_dim)
        h = self.stem(pixel_unshuffle(x, self.patch))  # (B, widths[0], H/p, W/p)
        for depth, block in enumerate(self.blocks):
            if depth:
                h = self.downsample[depth - 1](h)  # half the height and width
            h = block(h, emb)  # (B, widths[depth], ...)
        return self.head(silu(self.norm(h)).flatten(1))  # (B, num_classes)
