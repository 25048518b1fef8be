"""YAML: experiments, studies, sweeps, and settings on the command line."""

import random
from pathlib import Path

from omegaconf import OmegaConf

from experiments.config import load
from experiments.study.plan import read_study
from experiments.sweep.plan import read_sweep
from tests.fuzzing.breaking import TEXT, broken, broken_tree
from tests.fuzzing.kind import Act, drop

ROOT = Path(__file__).parents[2]


STUDY = b"""title: small
experiments: [demo]
folds: [0]
seeds: [0, 1]
systems:
  full: {}
  single_task: {}
  mine:
    label: of the user's own
    settings: {data.quota: 8, model.adversary.weight: 0}
curves:
  labels:
    label: share
    points: [{data.labelled_share: 0.1}, {data.labelled_share: 1}]
"""

SWEEP = b"""name: small
method: random
run_cap: 3
metric: {name: dev/uar, goal: maximize}
early_terminate: {type: hyperband, min_iter: 7, eta: 3}
parameters:
  model.optimiser.learning_rate: {distribution: log_uniform_values, min: 0.0005, max: 0.008}
  data.quota: {values: [24, 32]}
command: ["${env}", "${interpreter}", -m, experiments, train, demo, trainer.test=false, "${args_no_hyphens}"]
"""

HOSTILE = (
    b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    b"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n",
    b"data: " + b"[" * 5000,
    b"data: " + b"{a: " * 2000,
    b"data: &a {corpora: *a}\n",
    b"wandb: {project: '${oc.env:HOME}'}\n",
    b"wandb: {project: '${oc.env:HOME,x}${oc.create:x}'}\n",
    b"experiment: ${run}\nrun: ${experiment}\n",
    b"experiment: ${" * 500 + b"}" * 500,
    b"!!python/object/apply:os.system ['touch owned']\n",
    b"seed: !!python/name:os.system\n",
    b"seed: " + b"9" * 10_000 + b"\n",
    b"seed: 2024-99-99\n",
    b"extends: /etc/passwd\n",
    b"extends: ../../../etc/passwd\n",
    b"extends: [a, b]\n",
    b"extends: " + b"x" * 5000 + b"\n",
    b"wandb: {group: aaaaaaaaaa, entity: '${wandb.group}${wandb.group}', project: '${wandb.entity}${wandb.entity}'}\n",
    *(
        b"data: {corpora: {demo: {options: {a0: "
        + b"x" * 1000
        + b", "
        + b", ".join(
            b"a%d: '${data.corpora.demo.options.a%d}${data.corpora.demo.options.a%d}'" % (n + 1, n, n)
            for n in range(40)
        )
        + b"}}}}\n",
    ),
    b"---\na: 1\n---\nb: 2\n",
    b"? [1, 2]\n: 3\n",
    b"1: 2\n",
    b"null: 2\n",
    b"data: null\n",
    b"%YAML 9.9\n---\na: 1\n",
)


def write_yaml(seeds: Path) -> None:
    for folder in ("experiment", "sweep", "study"):
        (seeds / folder).mkdir()
    for file in (ROOT / "experiments").glob("*.yaml"):
        (seeds / "experiment" / file.name).write_bytes(file.read_bytes())
    (seeds / "sweep" / "small.yaml").write_bytes(SWEEP)
    (seeds / "study" / "small.yaml").write_bytes(STUDY)


def break_yaml(draw: random.Random, seeds: Path, place: Path) -> Act:
    what = draw.choice(("experiment", "experiment", "experiment", "experiment", "study", "sweep"))
    content = draw.choice(sorted((seeds / what).iterdir())).read_bytes()
    way = draw.random()
    if way < 0.04:
        content = draw.choice(HOSTILE)
    elif way < 0.08:
        content += draw.choice(HOSTILE)
    elif way < 0.5:
        import yaml  # type: ignore[import-untyped]

        tree = broken_tree(yaml.safe_load(content), draw)
        try:
            content = yaml.safe_dump(tree, allow_unicode=draw.random() < 0.5).encode("utf-8", "surrogatepass")
        except ValueError:  # more digits than Python writes
            content += b"seed: 0x" + b"f" * 9000
    else:
        content = broken(content, draw, TEXT)
    file = place / "x.yaml"
    file.write_bytes(content)
    if what == "study":
        return lambda: drop(read_study(str(file)))
    if what == "sweep":
        return lambda: drop(read_sweep(str(file)))
    settings = []
    if draw.random() < 0.3:
        setting = draw.choice(
            (b"data.quota=8", b"data.auxiliary.0.quota=3", b"model.code={a: 3}", b"data.classes={a: [b]}")
        )
        settings = [broken(setting, draw, TEXT).decode(errors="surrogateescape")]

    def act() -> None:
        config = load(str(file), settings)
        OmegaConf.to_yaml(OmegaConf.structured(config))

    return act
