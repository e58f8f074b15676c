"""How many images go through an encoder at once."""

ON_CPU = 64
ON_GPU = 256  # images of 224 x 224: smaller ones go in proportion
_GPU_PIXELS = ON_GPU * 224 * 224
_GPU_MOST = 4096


def batch_size(asked: int | None, device: str, resolution: int) -> int:
    """What was asked for; None, for `auto`: by the device, and there by the size at which the network sees an image."""
    if asked is not None:
        return asked
    if not device.startswith("cuda"):
        return ON_CPU
    return max(1, min(_GPU_MOST, _GPU_PIXELS // resolution**2))
