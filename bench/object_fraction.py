"""What CPD and DAE do as scenes grow complex: DATM, +CPD, +DAE and EDF over the share of the image that the object fills

    python bench/object_fraction.py

Cluttered digits, the demo's settings at 200 iterations; every seed is another distillation (other initial images, segments, augmentation),
paired over the methods, with two students each. Differences are to DATM of the same seed.
"""
import dataclasses,time
from pathlib import Path
import numpy as np
from fastcore.script import call_parse
from edf_nrr.cli import DEMO, DEMO_EXPERTS, DEMO_RECIPE
from edf_nrr.core import changed, mean_ci, write_results
from edf_nrr.data import cluttered_digits
from edf_nrr.edf import compare_matching
from edf_nrr.trajectory import expert_accuracy, record_experts

@call_parse
def main(
    fractions:str='.4,.6,.9', # Of the image that the digit's square fills
    seeds:int=5, # Distillations a method and fraction
    students:int=2, # A distillation
    iterations:int=200, # Of each distillation
    runs:str='runs/object_fraction', # Folder for experts and runs
    out:str='bench/results/object_fraction.json' # Results file
):
    t0,rows,methods = time.time(),[],('datm', 'datm+cpd', 'datm+dae', 'edf')
    for f in map(float, fractions.split(',')):
        data = cluttered_digits(4000, 1000, size=16, object_fraction=f)
        experts = record_experts(data, Path(runs)/f'experts_{f}', DEMO_EXPERTS)
        acc = expert_accuracy(experts, data, 0, experts.epochs[-1:])[0]
        per = {m: [] for m in ('random real', *methods)}
        for s in range(seeds):
            cfg = changed(DEMO, iterations=iterations, seed=s)
            _,evals,_ = compare_matching(data, experts, cfg, DEMO_RECIPE, Path(runs)/f'{f}_{s}', range(s*students, (s+1)*students), methods, say=lambda t: None)
            for m,e in evals.items(): per[m].append(e.last)
        for m,a in per.items():
            d = [np.mean(x)-np.mean(y) for x,y in zip(a, per['datm'])]
            rows.append(dict(method=m, ipc=cfg.ipc, arch=experts.arch, labels='soft', accuracy=np.ravel(a).tolist(), object_fraction=f, expert_accuracy=acc,
                             distillation_seeds=seeds, students_each=students, minus_datm=mean_ci(d), per_seed=[float(np.mean(x)) for x in a]))
            mean,half = mean_ci(rows[-1]['per_seed'])
            print(f'{f:4} {m:>12} {100*mean:5.1f} ± {100*half:.1f}   to DATM {100*rows[-1]["minus_datm"][0]:+.1f} ± {100*rows[-1]["minus_datm"][1]:.1f}', flush=True)
    write_results(out, rows, time.time()-t0, f'python bench/object_fraction.py --fractions {fractions} --seeds {seeds} --students {students} --iterations {iterations}', config=dataclasses.asdict(cfg))
