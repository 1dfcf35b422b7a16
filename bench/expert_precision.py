"""Do experts teach as well when their passes, or the epochs that are kept of them, are in bfloat16?

    python bench/expert_precision.py

DATM with one image a class on cluttered digits from experts of each kind; everything but the precision is the same for a seed, so differences are paired.
"""
import time
from pathlib import Path
from fastcore.script import call_parse
from edf_nrr.basics import changed, default_device, write_results
from edf_nrr.datasets import cluttered_digits
from edf_nrr.training import evaluate
from edf_nrr.trajectory import expert_accuracy, record_experts
from edf_nrr.edf import VARIANTS, distill
from edf_nrr.demo import DEMO, DEMO_EXPERTS, DEMO_RECIPE

KINDS = {'float32': {}, 'kept as bfloat16': dict(dtype='bfloat16'), 'passes in bfloat16': dict(amp=True)}

@call_parse
def main(
    seeds:int=5, # Recordings, distillations and students of each kind
    experts:int=2, # A recording
    iterations:int=200, # Of a distillation
    runs:str='runs/expert_precision', # Folder for experts and runs
    out:str='bench/results/expert_precision.json' # Results file
):
    t0,data,res = time.time(),cluttered_digits(size=16, object_fraction=.6, device=default_device()),{k: [] for k in KINDS}
    learned = {k: [] for k in KINDS}
    for seed in range(seeds):
        for kind,how in KINDS.items():
            path = Path(runs)/kind.replace(' ', '_')/str(seed)
            store = record_experts(data, path/'experts', changed(DEMO_EXPERTS, n=experts, seed=seed, **how), show=False)
            syn = distill(data, store, changed(DEMO, iterations=iterations, seed=seed, **VARIANTS['datm']), path=path/'datm', show=False)
            learned[kind].append(expert_accuracy(store, data, 0, store.epochs[-1:])[0])
            res[kind].append(evaluate(syn, data, store.arch, [seed], DEMO_RECIPE).last[0])
            print(seed, kind, f'expert {learned[kind][-1]:.3f}, student {res[kind][-1]:.3f}', flush=True)
    rows = [dict(method=k, ipc=1, arch=DEMO_EXPERTS.arch, labels='soft', accuracy=v, expert=learned[k]) for k,v in res.items()]
    write_results(out, rows, time.time()-t0, f'python bench/expert_precision.py --seeds {seeds}', experts=experts, iterations=iterations)
