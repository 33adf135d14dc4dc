"""Two processes of pretraining against one that has the whole batch."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from rlrep.contrast.parts import (
    BarlowTwins,
    HardNTXent,
    InfoNCE,
    LearnedPredictor,
    Momentum,
    NTXent,
    Projection,
    Queue,
    Regression,
    SetPredictor,
    SquaredDistance,
    Suncet,
    SupCon,
    Transport,
    VICReg,
    Whitening,
)
from rlrep.ssl import (
    Autoencoder,
    CoMatch,
    ImageBatch,
    JointEmbedding,
    LabelledContrast,
    LabelledSubset,
    MethodConfig,
    TargetEmbedding,
)
from rlrep.ssl.learner import average

from .ssl_rig import ABOUT, ROOT, SAME, conv_encoder, images

WORLD = 2
HEAD = Projection(hidden_dim=8, out_dim=4, norm="none")
PREDICTOR = LearnedPredictor(8, norm="none")
TARGET = TargetEmbedding(SAME, HEAD, Regression(), target=Momentum(0.1), predictor=PREDICTOR)
METHODS: dict[str, MethodConfig] = {
    "simclr": JointEmbedding(SAME, HEAD, NTXent(), forward="together"),
    "hard": JointEmbedding(SAME, HEAD, HardNTXent(beta=1.0)),
    "supcon": JointEmbedding(SAME, HEAD, SupCon()),
    "cacr": JointEmbedding(SAME, HEAD, Transport()),
    "barlow": JointEmbedding(SAME, HEAD, BarlowTwins()),
    "vicreg": JointEmbedding(SAME, HEAD, VICReg()),
    "whitening": JointEmbedding(SAME, HEAD, SquaredDistance(), whitening=Whitening(groups=2)),
    "suncet": LabelledContrast(SAME, HEAD, NTXent(), Suncet(), LabelledSubset()),
    "comatch": CoMatch((*SAME, SAME[0]), HEAD, LabelledSubset(), threshold=0.3, memory=16),
    "byol": TARGET,
    "simsiam": replace(TARGET, target=None),
    "directpred": replace(TARGET, predictor=SetPredictor()),
    "moco_v3": replace(TARGET, objective=InfoNCE(0.2)),
    "moco": replace(TARGET, objective=InfoNCE(0.2), predictor=None, queue=Queue(16), directions="one"),
    "autoencoder": Autoencoder(SAME[:1], channels=4),
}


def whole_batch(number: int) -> ImageBatch:
    classes = torch.arange(8) % 4
    return ImageBatch(tuple(images(8, seed) for seed in range(number)), classes, images(8, 7), classes)


def share(rows: Tensor | None, rank: int, world: int) -> Tensor:
    assert rows is not None
    return rows.chunk(world)[rank]


def steps(config: MethodConfig, rank: int, world: int) -> list[Tensor]:
    """Return losses, gradients and states of two updates by plain gradient descent on this process's share."""
    torch.manual_seed(0)
    method = config.make(conv_encoder(), ABOUT).double()
    whole = whole_batch(method.needs.views)
    batch = ImageBatch(
        tuple(share(view, rank, world) for view in whole.views),
        share(whole.labels, rank, world),
        share(whole.labelled, rank, world),
        share(whole.labelled_classes, rank, world),
    )
    found: list[Tensor] = []
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    for update in range(2):
        torch.manual_seed(update)
        loss, _ = method.loss(batch)
        gradients = [g.clone() for g in torch.autograd.grad(loss, parameters)]
        average(gradients)
        total = loss.detach().clone()
        average([total])
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=0.1)
        method.after_step(0.5)
        found += [total, *gradients]
    return [*found, *(buffer.clone() for buffer in method.buffers())]


def process(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if Path("/sys/class/net/lo").exists() else "lo0")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=timedelta(seconds=120)
    )
    try:
        found = {name: steps(config, rank, WORLD) for name, config in METHODS.items()}
    finally:
        dist.destroy_process_group()
    for name, config in METHODS.items():
        torch.testing.assert_close(found[name], steps(config, 0, 1), msg=f"{name} differs")


gloo = pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch without gloo")


@gloo
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    spawn(process, (str(tmp_path / "store"),), WORLD)


@gloo
@pytest.mark.slow
def test_torchrun_writes_one_folder_and_goes_on_from_it(tmp_path: Path) -> None:
    words = ["method=moco_v3", "data=digits", "data.size=16", "preset=debug", "device=cpu", "logger=none"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m", "rlrep.pretrain", *words, "out=run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("final evaluation") == 1 and "2 processes" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["updates"] for row in rows] == [0, 5, 5, 10, 10]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.stdout.count("this run is finished (10 updates)") == 1
