"""What is found out about a network that is given: its embedding, logits and head, or one line that says why not."""

import pytest
import torch
from torch import nn

from methods.encoders.networks import given

IMAGES = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """(N, 3, 6, 6) -> 20 -> 5 -> 4 logits. `returns`: what of (embedding, logits) it returns."""

    def __init__(self, returns=lambda embedding, logits: logits):
        super().__init__()
        torch.manual_seed(1)
        self.flat, self.fc1, self.drop = nn.Flatten(), nn.Linear(108, 20), nn.Dropout(0.5)
        self.fc2, self.fc3 = nn.Linear(20, 5), nn.Linear(5, 4)
        self.returns = returns

    def forward(self, x):
        embedding = torch.relu(self.fc2(torch.relu(self.fc1(self.flat(x)))))
        return self.returns(embedding, self.fc3(self.drop(embedding)))


def found(network, **how):
    looked = given.look(network, IMAGES, **how)
    return looked, {name: values.numpy() for name, values in looked.given.items()}


def by_hand(network):
    with torch.no_grad():
        embedding = torch.relu(network.fc2(torch.relu(network.fc1(IMAGES.flatten(1)))))
        return embedding, embedding @ network.fc3.weight.T + network.fc3.bias


@pytest.mark.parametrize(
    "returns",
    [
        lambda embedding, logits: logits,
        lambda embedding, logits: (embedding, logits),
        lambda embedding, logits: {"logits": logits, "embedding": embedding, "loss": None},
        lambda embedding, logits: {"logits": logits},
        lambda embedding, logits: [logits.clone().mul(1), logits][1],
    ],
)
def test_embedding_and_head_are_those_of_the_last_linear_layer(returns):
    network = Net(returns).train()
    looked, features = found(network)
    embedding, logits = by_hand(network)
    torch.testing.assert_close(torch.from_numpy(features["embedding"]), embedding)
    torch.testing.assert_close(looked.head.weight, network.fc3.weight.detach())
    torch.testing.assert_close(looked.head(embedding), logits)
    assert network.training


def test_the_head_may_be_named_and_is_then_held_against_the_logits():
    assert found(Net(), head="fc3")[0].head_name == "fc3"
    with pytest.raises(
        ValueError, match=r"not what its layer fc2 makes .*candidates: fc3 5 -> 4, fc1 108 -> 20, fc2 20"
    ):
        found(Net(), head="fc2")
    with pytest.raises(ValueError, match="Net has no module 'fc4'; did you mean 'fc"):
        found(Net(), head="fc4")
    with pytest.raises(ValueError, match="head: flat of Net is no linear layer"):
        found(Net(), head="flat")


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        (lambda e, z: z.softmax(1), r"returns probabilities \(they add up to 1\), not logits"),
        (lambda e, z: z.log_softmax(1), "returns log-probabilities, not logits"),
        (lambda e, z: z * 2, "the logits of Net are not what a linear layer of it makes .*candidates: fc3 5 -> 4, fc1"),
        (lambda e, z: (e, z * 2), "an embedding of 5 columns and 4 logits, but no linear layer of it gives the second"),
        (lambda e, z: (z, e), r"returns \(logits, embedding\): return \(embedding, logits\)"),
        (lambda e, z: (e, z, z), r"returns \(Tensor, Tensor, Tensor\): return logits"),
        (lambda e, z: "text", "returns a str: return logits"),
        (lambda e, z: {"out": z}, "returns a dict of out: none of embedding, logits, layers"),
        (lambda e, z: z[:, :1], "returns one number an image"),
        (lambda e, z: z[:, :, None], r"logits of 8 images is \(8, 4, 1\)"),
        (lambda e, z: z[:3], r"logits of 8 images is \(3, 4\)"),
        (lambda e, z: z / 0, "logits of the first images holds NaN or infinity"),
        (lambda e, z: z @ torch.zeros(7, 7), "Net cannot read a batch of float32 .8, 3, 6, 6.: RuntimeError"),
    ],
)
def test_what_cannot_be_is_one_line(returns, said):
    with pytest.raises(ValueError, match=said) as error:
        found(Net(returns))
    assert "\n" not in str(error.value)


def test_layers_are_modules_by_name_or_what_a_dict_holds():
    conv = nn.Conv2d(3, 2, 1)
    maps = nn.Sequential(conv, nn.Flatten(), nn.Linear(72, 4))
    looked, features = found(maps, layers=["0"])
    torch.testing.assert_close(torch.from_numpy(features["layers"]), conv(IMAGES).mean((2, 3)).detach())
    assert looked.layer_sizes == (2,)
    assert len(conv._forward_hooks) == 0
    two, features = found(Net(lambda e, z: {"logits": z, "layers": [e, z[:, :, None, None]]}))
    assert two.layer_sizes == (5, 4)
    with pytest.raises(ValueError, match="has no module '7'"):
        found(maps, layers=["7"])


def test_a_network_is_unwrapped_and_what_a_pass_left_in_it_is_no_hindrance():
    network = Net()
    network.kept = network.fc1(IMAGES.flatten(1))  # with its graph: such a tensor cannot be copied as it is
    assert found(nn.DataParallel(network))[0].title == "Net"
    assert network.kept.grad_fn is not None


def test_what_cannot_be_copied_is_one_line():
    network = Net()
    network.lock = (value for value in ())
    with pytest.raises(ValueError, match="Net cannot be copied"):
        found(network)


def test_the_fingerprint_is_of_weights_and_of_what_it_gives():
    one, same, other = Net(), Net(), Net()
    with torch.no_grad():
        other.fc1.bias[0] += 1
    twice = Net(lambda e, z: {"logits": z, "layers": [e * 2]})
    prints = [found(network)[0].fingerprint for network in (one, same, other, twice)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
