"""The encoder `clip` on a tiny random CLIP, against open_clip's own arithmetic and the formulae."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.jobs.inputs import EncoderUse
from methods.encoders.clip import chosen
from methods.encoders.registry import create

open_clip = pytest.importorskip("open_clip")
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
CLASSES = ("cat", "sea_lion", "truck")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    save_file(open_clip.create_model("tiny-clip", load_weights=False).state_dict(), folder / "clip.safetensors")
    (folder / "words.txt").write_text("\n".join(["stone", "river", "", "anger", "stone", "tax", *map(str, range(16))]))
    return folder


def images() -> Tensor:
    return torch.randint(256, (3, 48, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def opened(folder: Path, **settings: Any) -> Any:
    encoder = create("clip", model="tiny-clip", classes=CLASSES, **settings)
    return encoder.open(encoder.find_weights(folder))


def model(folder: Path) -> tuple[Any, Any]:
    from safetensors.torch import load_file

    network, _, transform = open_clip.create_model_and_transforms("tiny-clip", load_weights=False)
    network.load_state_dict(load_file(folder / "clip.safetensors"))
    return network.eval(), transform


def texts(network: Any, *prompts: str) -> Tensor:
    with torch.no_grad():
        return normalize(network.encode_text(open_clip.get_tokenizer("tiny-clip")(list(prompts))), dim=1)


def test_logits_are_the_cosines_of_open_clip(folder: Path) -> None:
    encoder = opened(folder, templates=["a photo of a {}", "the {}"])
    given = encoder.encode(images())
    network, transform = model(folder)
    with torch.no_grad():
        pixels = torch.stack([transform(Image.fromarray(image.numpy())) for image in images()])
        z = normalize(network.encode_image(pixels), dim=1)
    names = ("cat", "sea lion", "truck")
    each = [texts(network, *(form.format(name) for name in names)) for form in ("a photo of a {}", "the {}")]
    wanted = normalize(torch.stack(each).mean(dim=0), dim=1)
    torch.testing.assert_close(given["embedding"], z, atol=2e-3, rtol=0)
    torch.testing.assert_close(given["logits"], z @ wanted.T, atol=2e-3, rtol=0)
    torch.testing.assert_close(given["logits"], encoder.head(given["embedding"]))
    assert encoder.given_classes.names == CLASSES


def test_local_of_a_block_that_looks_at_itself_alone(folder: Path) -> None:
    """With no key and no query every patch would see the mean; the values alone are taken, through the last norm."""
    encoder = opened(folder, local=True, local_tau=0.5)
    given = encoder.encode(images())
    network, transform = model(folder)
    visual = network.visual
    pixels = torch.stack([transform(Image.fromarray(image.numpy())) for image in images()])
    with torch.no_grad():
        tokens = visual.transformer.resblocks[0](visual._embeds(pixels))
        block = visual.transformer.resblocks[1]
        third = block.attn.in_proj_weight[64:], block.attn.in_proj_bias[64:]
        value = block.ln_1(tokens) @ third[0].T + third[1]
        value = value @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        parts = normalize(visual.ln_post(value[:, 1:]) @ visual.proj, dim=2)
        names = texts(network, *(f"a photo of a {name}" for name in ("cat", "sea lion", "truck")))
        wanted = ((parts @ names.T) / 0.5).softmax(dim=2).amax((1, 2))[:, None]
    torch.testing.assert_close(given["local"], wanted, atol=2e-3, rtol=0)


def test_negative_words_are_those_farthest_from_the_classes(folder: Path) -> None:
    words = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    assert chosen(words, torch.tensor([[1.0, 0]]), 0.5).tolist() == [[0, 1], [-1, 0]]
    encoder = opened(folder, words=str(folder / "words.txt"), kept=0.5)
    given = encoder.encode(images())
    assert given["negatives"].shape == (3, 10)  # of 20 different words
    assert set(given) == set(encoder.offers)
    assert encoder.words_sha256 is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"templates": ["a photo"]}, "holds {}"),
        ({"classes": ["a"]}, "at least 2"),
        ({"words": "/no/x"}, "cannot be"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create("clip", **wrong)


@pytest.mark.parametrize(("put", "message"), [(os.mkfifo, "is a fifo, not a regular file"), (os.mkdir, "is a folder")])
def test_words_that_are_no_file_are_never_waited_for(tmp_path: Path, put: Callable[[Path], None], message: str) -> None:
    put(tmp_path / "words.txt")
    with pytest.raises(ValueError, match=message):
        create("clip", words=str(tmp_path / "words.txt"))


def test_a_model_that_open_clip_has_not_is_one_line(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^open_clip has no model 'ViT-B-17'; did you mean 'ViT-B-16'"):
        create("clip", model="ViT-B-17").find_weights(folder)


def test_nothing_warns_of_random_weights_that_the_file_replaces(folder: Path) -> None:
    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = told.append  # type: ignore[method-assign]
    logging.root.addHandler(handler)
    try:
        open_clip.create_model("tiny-clip", load_weights=False)
        assert told  # which it does by itself
        told.clear()
        opened(folder).weights()
        assert not told
    finally:
        logging.root.removeHandler(handler)


def test_a_record_and_a_key_hold_the_words_and_not_their_place(tmp_path: Path) -> None:
    found = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "words.txt").write_text("stone\nriver")
        settings = {"classes": list(CLASSES), "words": str(tmp_path / place / "words.txt")}
        found.append(EncoderUse("clip", "clip", settings, "CLIP").identity)
    assert found[0] == found[1]
    assert str(tmp_path) not in json.dumps(found)
