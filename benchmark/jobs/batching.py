"""How many images go through an encoder at once."""

ON_CPU = 64
ON_GPU = 256  # images of 224 x 224: smaller ones go in proportion
_GPU_PIXELS = ON_GPU * 224 * 224
_RERUN_PIXELS = 8 * 224 * 224  # on a CPU: of an ImageNet network's maps for gradients 64 images of 260 x 260 took 8 GiB
_GPU_MOST = 4096


def batch_size(asked: int | None, device: str, resolution: int, *, reruns: bool = False) -> int:
    """What was asked for; None, for `auto`: by the device, and there by the size at which the network sees an image.

    reruns: whether every map of the network is held at once, as a gradient needs them.
    """
    if asked is not None:
        return asked
    if not device.startswith("cuda"):
        return max(1, min(ON_CPU, _RERUN_PIXELS // resolution**2)) if reruns else ON_CPU
    return max(1, min(_GPU_MOST, _GPU_PIXELS // resolution**2))
