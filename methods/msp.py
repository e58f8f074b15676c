"""Maximum softmax probability: the classifier's own confidence."""

from dataclasses import dataclass

from torch import Tensor

from methods.base import Features, Method, Positive, register


@register("msp")
@dataclass
class MSP(Method):
    """-max_c p_c with p = softmax(f), in a monotone form that does not saturate.

    score = -log max_c p_c = log(1 + sum over the other classes of exp(f_c - max f)), in float64, of f / temperature.
    The softmax itself rounds to 1 in float32 from a gap of 17 between logits on; this stays distinct up to a gap of
    745. With a temperature of 1,000 on the encoder `perturbed` it is ODIN.
    """

    title = "MSP"
    paper = (
        "Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in "
        "Neural Networks, ICLR 2017, https://arxiv.org/abs/1610.02136"
    )
    reads = ("logits",)

    score_only = ("temperature",)

    temperature: Positive = 1.0

    def score(self, x: Features) -> Tensor:
        logits = x.need("logits").double() / self.temperature
        largest, predicted = logits.max(dim=1, keepdim=True)
        others = (logits - largest).exp().scatter(1, predicted, 0.0)
        return others.sum(dim=1).log1p()
