"""The encoder of a network that is given: it runs as fast as others do, and only where it still gives the same."""

import pytest
import torch
from torch import nn

from methods.encoders import registry
from methods.encoders.module import Module
from methods.encoders.networks import given

IMAGES = torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network(*between, flat=None):
    torch.manual_seed(1)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), *between, flat or nn.Flatten(), nn.Linear(256, 5)
    )
    with torch.no_grad():
        layers[1].running_mean.normal_()
        layers[1].running_var.uniform_(0.5, 2)
    return layers


def features(of):
    return Module(given.look(of, IMAGES)).open(None).encode(IMAGES)


def norms(encoder):
    return sum(isinstance(module, nn.BatchNorm2d) for module in encoder._placed.network.modules())


class View(nn.Module):
    def forward(self, x):
        return x.view(x.shape[0], -1)  # which maps that lie channels last do not allow


@pytest.mark.parametrize("flat", [nn.Flatten(), View()])
def test_it_gives_what_the_network_gives(flat):
    of = network(flat=flat).eval()
    encoder = Module(given.look(of, IMAGES)).open(None)
    found = encoder.encode(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(found["logits"], of(IMAGES), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found["embedding"], of[:-1](IMAGES), rtol=1e-5, atol=1e-5)
    assert norms(encoder) == 0
    assert encoder.memory_format == ("contiguous" if isinstance(flat, View) else "channels_last")


def test_a_hook_of_the_callers_still_does_its_work():
    of = network().eval()
    of[0].register_forward_hook(lambda module, x, y: y.clamp(max=0.1))
    encoder = Module(given.look(of, IMAGES)).open(None)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(IMAGES)["logits"], of(IMAGES), rtol=1e-5, atol=1e-5)
    assert norms(encoder) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "ALLOC_FAILED"),
        (RuntimeError("view size is not compatible"), "other outputs"),
    ],
)
def test_a_device_without_memory_is_no_fault_of_the_network(error, said, monkeypatch):
    encoder = Module(given.look(network().eval(), IMAGES))
    monkeypatch.setattr(Module, "_run", lambda self, images: _raise(error))
    with pytest.raises((RuntimeError, ValueError), match=said):
        encoder.open(None)


def _raise(error):
    raise error


class Draws(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def test_a_network_that_draws_is_refused():
    with pytest.raises(
        ValueError, match="Sequential gives other outputs for the same images when it runs again on cpu"
    ):
        features(network(Draws()))


def test_whole_numbers_stay_whole():
    torch.manual_seed(0)
    words = nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(24, 3))
    tokens = torch.randint(0, 11, (5, 4))
    encoder = Module(given.look(words, tokens)).open(None)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(tokens)["logits"], words(tokens))


def test_no_suite_can_name_one():
    with pytest.raises(ValueError, match=r"from Python: benchmark\.evaluate"):
        registry.create("module")
    with pytest.raises(ValueError, match=r"given is .os\.system."):
        registry.create("module", given="os.system")
