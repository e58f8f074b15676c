"""Takes fits that an earlier commit trained into the store, where today's code would train the same to the bit.

    python -m tests.evidence.adopt --data DATA --weights WEIGHTS --cache CACHE --fits FITS --commit d94f1c1

A fit's key holds the source, so that a long training made from a commit that is never updated (the issue "Evidence")
is not found by later code, which scores it anew. FITS holds the states as the store had them, each under the first row
of the suite that it is of, `<row>.seed<N>.safetensors`. CACHE has today's encodings by the engine that the kept
training read (`--engine torch`: another's differ by rounding). Of each fit one epoch is trained by today's code on
them; only where its loss, and DLSR's network of the first epoch, are the kept ones bit for bit, the fit is put under
today's key. Records then say when, where and by which commit it was trained.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import product

import torch
from safetensors.torch import load_file
from torch import Tensor

import methods
from benchmark.jobs.encoding import load_features
from benchmark.jobs.fitting import FitMethod
from benchmark.records import provenance
from benchmark.store.entries import Store
from tests.evidence import trained


def main() -> None:
    parse = trained.parser(__doc__)
    parse.add_argument("--commit", required=True, help="that the fits were trained by")
    given = parse.parse_args()
    store = Store(given.cache)
    for path, resolution in product(sorted(given.fits.glob("*.seed*.safetensors")), ("native", "id")):
        row, _, seed = path.stem.rpartition(".seed")
        state = load_file(path)
        fit = trained.fit_of(trained.planned(given, row, (int(seed),), resolution))
        what = f"{path.name}, {resolution}"
        if apart := _apart(fit, state, store):
            print(f"{what}: {apart} of today's first epoch is another: not taken", flush=True)
            continue
        date = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
        training = {**provenance.training("cpu"), "commit": given.commit, "date": date}
        meta = {"title": fit.title, "seconds": None, "training": training, "engine": None}
        store.put("fit", fit.key, tensors=state, meta=meta)
        print(f"{what}: taken; today's first epoch is the same, bit for bit", flush=True)


def _apart(fit: FitMethod, kept: Mapping[str, Tensor], store: Store) -> str:
    """What of one epoch by today's code differs from the kept training's; "" where nothing does."""
    method = methods.create(fit.method, **{**fit.settings, "epochs": 1})
    method.fit(load_features(fit.train, store, method.reads), seed=fit.seed)
    again = method.state()
    names = [name for name in kept if name.startswith("first.")]
    if again["losses"][0] != kept["losses"][0]:
        return "the loss"
    return next((name for name in names if not torch.equal(again[name], kept[name])), "")


if __name__ == "__main__":
    main()
