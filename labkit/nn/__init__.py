"""Networks. They know nothing of paths: each is a field, `forward(x, t, y=None)` shaped like x."""
