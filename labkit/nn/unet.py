"""A small U-Net for images: down to a coarse grid, one look at the whole picture, and up again.

    x (B, C, H, W)
      | pixel_unshuffle: each patch of p x p pixels becomes one position with C p^2 channels
      | stem ------------------------------ full-resolution skip ------------------------------+
      | encoder   level 0 ------------------------ skip ----------------------- level 0 decoder |
      |             level 1 (half the size) ------ skip ------------ level 1                    |
      |               ...                                              ...                      |
      |                 midcoder: block, attention, block, on the coarsest grid                 |
      | head: normalise, convolve to C p^2 channels  <-----------------------------------------+
      | pixel_shuffle
    velocity (B, C, H, W)

Every residual block hears time and class as a scale and a shift of its normalised channels.
U-Net: Convolutional Networks for Biomedical Image Segmentation (2015), figure 1; scale and shift as in Diffusion
Models Beat GANs on Image Synthesis (2021), section 3 (adaptive group normalisation).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle, scaled_dot_product_attention, silu

from labkit.base.inputs import takes, whole, wholes
from labkit.base.shapes import check_images, check_time
from labkit.nn.embeddings import Conditioning


@takes(channels=whole(1))
def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with groups of 8 channels. It looks at one sample only, so a sample never depends on its batch."""
    return GroupNorm(channels // 8, channels)


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`, but under CUDA's autocast in the precision that x comes in; sums are float32 all the same.

    Autocast alone makes it float32, and all that follows up to the next convolution: twice the bytes in the layers
    whose speed is that of the memory. On an H200 a training step of 512 images took 8.2 ms in the place of 9.7.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cuda" or not torch.is_autocast_enabled("cuda"):
            return super().forward(x)
        with torch.autocast("cuda", enabled=False):
            return functional.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


@takes()
def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and bias 0: a branch that ends in it starts as x + 0, a network at the loss E|v|^2 / d."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """x + f(x, emb): two 3x3 convolutions, with a scale and a shift from the conditioning vector between them."""

    @takes(channels_in=whole(1), channels_out=whole(1), emb_dim=whole(1))
    def __init__(self, channels_in: int, channels_out: int, emb_dim: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = group_norm(channels_in), group_norm(channels_out)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv_out = zeroed(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.scale_shift = nn.Linear(emb_dim, 2 * channels_out)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv_in(silu(self.norm_in(x)))  # (B, out, H, W)
        scale, shift = self.scale_shift(silu(emb))[:, :, None, None].chunk(2, dim=1)  # (B, out, 1, 1)
        h = self.norm_out(h) * (1 + scale) + shift
        return self.shortcut(x) + self.conv_out(silu(h))


class Attention(nn.Module):
    """x + attention over all positions of the grid, so that far ends of a stroke can agree."""

    def __init__(self, channels: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads = channels // head_dim if channels % head_dim == 0 else 1
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)  # each (B, heads, H*W, head_dim)
        h = scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, height, width)
        return x + self.out(h)


class UNet(nn.Module):
    """A field on images: `forward(x, t, y=None)` with x (B, channels, H, W), t (B,) in [0, 1], y (B,) in 0..K or None.

    `num_classes` is K, or None for a network without labels; label K is "no class given", and so is y=None. `widths`
    are the channels of each level, multiples of 8; a level has `blocks` residual blocks on the way down, and again on
    the way up. `patch` is the side of the pixel patches that become one position: 2 quarters the work on two CPU cores,
    1 is for a GPU. H and W must be divisible by patch * 2**(levels - 1). The conditioning vector has `emb_dim` numbers.
    """

    @takes(channels=whole(1), num_classes=whole(1), widths=wholes(8), blocks=whole(1), patch=whole(1), emb_dim=whole(2))
    def __init__(
        self,
        channels: int = 1,
        num_classes: int | None = 10,
        *,
        widths: tuple[int, ...] = (48, 96),
        blocks: int = 1,
        patch: int = 2,
        emb_dim: int = 128,
    ) -> None:
        super().__init__()
        if not widths or any(width < 8 or width % 8 for width in widths):
            raise ValueError(f"widths must be multiples of 8, one a level; got {widths}")
        self.channels, self.patch = channels, patch
        self.num_classes = self.null = num_classes
        self.smallest = patch * 2 ** (len(widths) - 1)
        pixels = channels * patch**2
        self.conditioning = Conditioning(emb_dim, num_classes)
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)

        def level(first_in: int, width: int) -> nn.ModuleList:
            inputs = [first_in] + [width] * (blocks - 1)
            return nn.ModuleList(ResidualBlock(c, width, emb_dim) for c in inputs)

        below, above = (widths[0], *widths[:-1]), (*widths[1:], widths[-1])
        self.encoder = nn.ModuleList(level(c, width) for c, width in zip(below, widths, strict=True))
        self.downsample = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        deep = widths[-1]
        middle = [ResidualBlock(deep, deep, emb_dim), Attention(deep), ResidualBlock(deep, deep, emb_dim)]
        self.midcoder = nn.ModuleList(middle)
        self.decoder = nn.ModuleList(level(c + w, w) for c, w in reversed(list(zip(above, widths, strict=True))))
        self.head_norm = group_norm(2 * widths[0])
        self.head = zeroed(nn.Conv2d(2 * widths[0], pixels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        check_images(x, self.channels, self.head.weight)
        if x.shape[2] % self.smallest or x.shape[3] % self.smallest:
            raise ValueError(f"height and width must be divisible by {self.smallest}; got {tuple(x.shape[2:])}")
        check_time(t, x)
        emb = self.conditioning(t, y)  # (B, emb_dim)
        stem = h = self.stem(pixel_unshuffle(x, self.patch))  # (B, widths[0], H/p, W/p)

        skips = []
        for depth, level in enumerate(self.encoder):
            if depth:
                h = self.downsample[depth - 1](h)  # half the height and width
            for block in level:
                h = block(h, emb)  # (B, widths[depth], ...)
            skips.append(h)

        first, attention, second = self.midcoder
        h = second(attention(first(h, emb)), emb)  # (B, widths[-1], ...)

        for depth, level in enumerate(self.decoder):
            if depth:
                h = interpolate(h, scale_factor=2.0)  # nearest neighbour: twice the height and width
            h = torch.cat((h, skips.pop()), dim=1)
            for block in level:
                h = block(h, emb)

        h = silu(self.head_norm(torch.cat((h, stem), dim=1)))  # the full-resolution skip
        return pixel_shuffle(self.head(h), self.patch)  # (B, channels, H, W)
