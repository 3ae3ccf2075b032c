"""A diffusion transformer: cut the picture into patches, let every patch look at every other, put it together again.

    x (B, C, H, W)
      | patchify: N = (H/p)(W/p) tokens, each the C p^2 numbers of one patch
      | stem: to `width` numbers a token, plus its fixed position
      | blocks: x + gate * attention(...), then x + gate * MLP(...)   <-  scales, shifts and gates from time and class
      | head: normalise, scale and shift, back to C p^2 numbers   <-  scale and shift from time and class
      | unpatchify
    velocity (B, C, H, W)

Attention alone carries anything from one token to another; stem, MLP and head treat every token alike.
Scalable Diffusion Models with Transformers (2023), section 3.2 and figure 3 (the block "adaLN-Zero").
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pixel_shuffle, pixel_unshuffle, scaled_dot_product_attention, silu

from labkit.base.inputs import a, takes, tensor, whole
from labkit.base.shapes import check_images, check_time
from labkit.nn.embeddings import Conditioning


@takes(x=a(Tensor), patch=whole(1))
def patchify(x: Tensor, patch: int) -> Tensor:
    """Images (B, C, H, W) to tokens (B, N, C p^2): the N = (H/p)(W/p) patches row by row, channel by channel in each.

    An Image is Worth 16x16 Words (2021), section 3.1. Raises ValueError where patches do not fill the images.
    """
    if x.ndim != 4:
        raise ValueError(f"x must have shape (B, C, H, W); got {tuple(x.shape)}")
    _check_grid(x.shape[2], x.shape[3], patch)
    return pixel_unshuffle(x, patch).flatten(2).mT


@takes(tokens=tensor("B", "N", "C p^2"), patch=whole(1), height=whole(1), width=whole(1))
def unpatchify(tokens: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The inverse of `patchify`: tokens (B, N, C p^2) to images (B, C, height, width).

    Raises ValueError if N is not (height / p)(width / p), or p^2 does not divide the length of a token.
    """
    rows, columns = _check_grid(height, width, patch)
    if tokens.ndim != 3 or tokens.shape[1] != rows * columns or tokens.shape[2] % patch**2:
        wanted = f"(B, {rows * columns}, C * {patch**2})"
        raise ValueError(f"tokens of {height}x{width} images must have shape {wanted}; got {tuple(tokens.shape)}")
    return pixel_shuffle(tokens.mT.unflatten(2, (rows, columns)), patch)


@takes(rows=whole(1), columns=whole(1))
def grid_positions(rows: int, columns: int, dim: int) -> Tensor:
    """Where each token stands, (rows * columns, dim): sin and cos of w_k times its row, then of w_k times its column.

    The dim/4 frequencies w_k = 100^(-4k/dim) fall from 1 to about 1/100 radians a patch: the fast waves tell neighbours
    apart, the slow ones far ends of the grid. Attention Is All You Need (2017), section 3.5, once for each axis and
    with 100 in the place of 10,000, which is for longer rows than ours. Raises ValueError unless 4 divides dim.
    """
    if dim < 4 or dim % 4:
        raise ValueError(f"dim must be a positive multiple of 4, sin and cos for two axes; got {dim}")
    frequencies = 100.0 ** (-torch.arange(dim // 4) / (dim // 4))
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))  # (rows * columns, 2)
    phases = places[:, :, None] * frequencies  # (rows * columns, 2, dim/4)
    return torch.cat((phases.sin(), phases.cos()), dim=2).flatten(1)


@takes(x=tensor("B", "N", "width"), shift=tensor("B", "width"), scale=tensor("B", "width"))
def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) * normalised x + shift: tokens (B, N, d), each normalised alone; `shift` and `scale` (B, d)."""
    for name, value in {"shift": shift, "scale": scale}.items():
        if value.shape != (len(x), x.shape[-1]):
            raise ValueError(
                f"{name} must have shape {(len(x), x.shape[-1])}, a row an image; got {tuple(value.shape)}"
            )
    return layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V in heads of d numbers each, (B, N, width): Attention Is All You Need (2017), eq. 1."""

    @takes(width=whole(1), heads=whole(1))
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        if q.device.type == "cpu" and q.dtype == torch.bfloat16:  # its gradient takes four times as long as float32's
            with torch.autocast("cpu", enabled=False):
                h = scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
        else:
            h = scaled_dot_product_attention(q, k, v)  # (B, heads, N, d)
        return self.out(h.transpose(1, 2).flatten(2))

    @takes(x=tensor("B", "N", "width"))
    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each (B, heads, N, d)."""
        return self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()


class Block(nn.Module):
    """Attention, then an MLP, each as x + gate * f((1 + scale) * normalised x + shift): adaptive layer norm, "adaLN".

    Shifts, scales and gates are linear in silu(emb), the conditioning (B, width); tokens are (B, N, width).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        self.attention = Attention(width, heads)
        hidden = mlp_ratio * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(silu(emb)).chunk(6, dim=1)  # (B, width)
        x = x + gate_a[:, None] * self.attention(modulate(x, shift_a, scale_a))
        return x + gate_m[:, None] * self.mlp(modulate(x, shift_m, scale_m))


class DiT(nn.Module):
    """A field on images: `forward(x, t, y=None)` with x (B, channels, S, S), t (B,) in [0, 1], y (B,) in 0..K or None.

    `num_classes` is K, or None for a network without labels; label K is "no class given", and so is y=None. The
    positions are made for images of `image_size` S, which a `patch` of side p cuts into N = (S/p)^2 tokens: halving p
    costs four times as much, and attention sixteen. A token has `width` numbers, a multiple of 4 and of `heads`; there
    are `depth` blocks, and `mlp_ratio` times as many hidden units in their MLPs.
    Raises ValueError for sizes that do not fit, and in `forward` for images, times and labels that do not.
    """

    @takes(channels=whole(1), num_classes=whole(1), image_size=whole(1), patch=whole(1), width=whole(1), depth=whole(1),
           heads=whole(1), mlp_ratio=whole(1))  # fmt: skip
    def __init__(
        self,
        channels: int = 1,
        num_classes: int | None = 10,
        *,
        image_size: int = 32,
        patch: int = 4,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads must divide width; got width={width} and heads={heads}")
        self.channels, self.image_size, self.patch = channels, image_size, patch
        self.num_classes = self.null = num_classes
        self.conditioning = Conditioning(width, num_classes)
        self.stem = nn.Linear(channels * patch**2, width)
        positions = grid_positions(*_check_grid(image_size, image_size, patch), width)
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, channels * patch**2)
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Start simple: all gates 0, so every block is the identity, and the output 0; the first loss is E|v|^2 / d."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in (*(block.modulation for block in self.blocks), self.head_modulation, self.head):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        tokens, emb = self._embed(x, t, y)  # (B, N, width), (B, width)
        for block in self.blocks:
            tokens = block(tokens, emb)  # (B, N, width)
        tokens = modulate(tokens, *self.head_modulation(silu(emb)).chunk(2, dim=1))
        return unpatchify(self.head(tokens), self.patch, *x.shape[2:])  # (B, channels, S, S)

    @takes()
    @torch.no_grad()
    def attention_weights(self, x: Tensor, t: Tensor, y: Tensor | None = None, *, block: int) -> Tensor:
        """softmax(Q K^T / sqrt(d)) of one block, (B, heads, N, N), when the network looks at (x, t, y).

        Entry (i, j) is how much of what token i reads comes from token j, so a row sums to 1; tokens are counted row by
        row. Raises ValueError unless `block` is in 0..depth-1, and as `forward` does.
        """
        if not 0 <= block < len(self.blocks):
            raise ValueError(f"block must lie in 0..{len(self.blocks) - 1}; got {block}")
        tokens, emb = self._embed(x, t, y)
        for earlier in self.blocks[:block]:
            tokens = earlier(tokens, emb)
        shift, scale, *_ = self.blocks[block].modulation(silu(emb)).chunk(6, dim=1)
        q, k, _ = self.blocks[block].attention.split(modulate(tokens, shift, scale))
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)

    def _embed(self, x: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, width) with their positions, and the conditioning vector (B, width)."""
        check_images(x, self.channels, self.head.weight)
        if x.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(f"height and width must be {self.image_size}; got {tuple(x.shape[2:])}")
        check_time(t, x)
        return self.stem(patchify(x, self.patch)) + self.positions, self.conditioning(t, y)


def _check_grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches; ValueError where patches do not fill the image."""
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"height and width must be divisible by patch={patch}; got ({height}, {width})")
    return height // patch, width // patch
