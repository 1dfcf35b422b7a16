"""Random real images, MTT, DATM, DATM+CPD, DATM+DAE and EDF on CIFAR-10, under one protocol

    python bench/cifar10_edf.py PATH            # folder with parquet files; 16x16, a fifth of the training images: half an hour on 2 cores
    python bench/cifar10_edf.py PATH --full     # the release's own size, for a GPU

PATH is a folder in the Hugging Face layout (train-*.parquet, test*.parquet) or, with --torchvision, where torchvision keeps CIFAR-10.
"""
import dataclasses,sys,time
from pathlib import Path
from fastcore.script import call_parse
from edf_nrr.basics import changed, write_results
from edf_nrr.datasets import cifar10
from edf_nrr.files import parquet
from edf_nrr.training import EDF_RECIPE, Recipe
from edf_nrr.trajectory import ExpertConfig, FTD_EXPERTS, expert_accuracy, record_experts
from edf_nrr.edf import EDFConfig, compare_matching
from edf_nrr.presets import preset

QUICK_EXPERTS = ExpertConfig(n=4, epochs=30, arch='convnet_d2_w32', lr=.03, momentum=0., batch_size=256, keep=16)
QUICK = EDFConfig(ipc=10, iterations=160, syn_steps=20, expert_epochs=1, lr_img=1000., lr_y=2., lr_lr=1e-4, lr_init=.03, batch_syn=50, loss_threshold=2.,
                  initial_max_start_epoch=5, max_start_epoch=15, expand_until=80, alpha=.25, beta=1., cam_interval=40, gradient='unrolled')
FULL_EXPERTS = changed(FTD_EXPERTS, keep=42, dtype='bfloat16')

@call_parse
def main(
    path:str, # Folder with the data
    full:bool=False, # The release's own size?
    torchvision:bool=False, # Is PATH torchvision's folder?
    ipc:int=10, # Images per class
    seeds:int=5, # Students a method
    seed:int=0, # Of the distillation
    runs:str='runs/cifar10_edf', # Folder for experts and runs
    out:str='bench/results/cifar10_edf.json' # Results file
):
    t0,size = time.time(),32 if full else 16
    if torchvision: data = cifar10(path)
    else: data = parquet(path, size=size, **({} if full else dict(n_train=10_000, n_test=2_000)))
    if full:
        data,experts_cfg,recipe = data.whiten(),FULL_EXPERTS,EDF_RECIPE
        cfg = preset('cifar10', ipc, alpha=.25, beta=1., cam_interval=100, arch=None, seed=seed, eval_every=1000)
    else: experts_cfg,cfg,recipe = QUICK_EXPERTS,changed(QUICK, ipc=ipc, seed=seed),Recipe(epochs=300)
    print(data)
    experts = record_experts(data, Path(runs)/('full' if full else 'quick')/'experts', experts_cfg)
    acc = expert_accuracy(experts, data, 0, experts.epochs[-1:])[0]
    print(f'an expert: {acc:.1%}; recording took {time.time()-t0:.0f} s')
    sets,evals,took = compare_matching(data, experts, cfg, recipe, Path(runs)/('full' if full else 'quick')/f'ipc{ipc}_seed{seed}', seeds)
    rows = [dict(e.row(), seconds=round(took.get(m, 0), 1), lr=sets[m].lr) for m,e in evals.items()]
    write_results(out, rows, time.time()-t0, ' '.join(['python bench/cifar10_edf.py PATH', *sys.argv[2:]]), expert_accuracy=acc, image_size=size, config=dataclasses.asdict(cfg))
