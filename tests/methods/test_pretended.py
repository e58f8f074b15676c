"""What a GPU would refuse is refused on the CPU: a tensor of a fit or of a score that was left on the other device."""

import numpy as np
import pytest
import torch

import methods
from methods.base import CannotRun
from tests.methods.test_contract import ID, SMALL, training_set
from tests.pretended import GPU, Pretended

NAMES = [name for name in methods.names() if not methods.get(name).trains]


def test_what_cuda_refuses_is_refused() -> None:
    here = torch.ones(2, 2)
    with Pretended():
        gpu = here.to("cuda")
        assert (gpu.device, (gpu > 0).double().device, gpu.cpu().device) == (GPU, GPU, torch.device("cpu"))
        assert float((gpu * torch.tensor(2.0)).sum()) == 8  # a number of the CPU may be there
        assert gpu[torch.tensor([0])].device == GPU
        with pytest.raises(RuntimeError, match="same device"):
            gpu + here
        with pytest.raises(RuntimeError, match="indices"):
            here[torch.zeros(1, dtype=torch.int64, device="cuda")]
        with pytest.raises(TypeError, match="can't convert cuda"):
            gpu.numpy()


@pytest.mark.parametrize("name", NAMES)
def test_fit_state_and_scores_are_where_they_belong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 33, 1 << 33))
    try:
        wanted = methods.create(name, **SMALL.get(name, {})).fit(training_set(name), seed=3).score(ID)
    except CannotRun as reason:
        pytest.skip(str(reason))
    with Pretended():
        method = methods.create(name, **SMALL.get(name, {})).fit(training_set(name), seed=3, device="cuda")
        state = method.state()
        assert {value.device.type for value in state.values()} <= {"cpu"}
        again = methods.create(name, **SMALL.get(name, {})).load_state(state, device="cuda")
        for which, device in ((method, "cuda"), (method, "cpu"), (again, "cuda")):
            scores = which.score(ID.to(device))
            assert scores.device.type == device
            np.testing.assert_allclose(scores.cpu().numpy(), wanted.numpy(), rtol=1e-4, atol=1e-6)
