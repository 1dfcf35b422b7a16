"""Which network? Candidates ordered by ten images a class and by all of CIFAR-10

    python bench/selection.py PATH

PATH holds CIFAR-10 in the Hugging Face layout. 16x16, 10,000 training and 2,000 test images. Each candidate is trained with class labels on all training images for many steps,
and for few steps on ten images a class: random real ones, EDF's and NRR-DD's, with class labels and each method's own. One learning rate for all candidates. What is finished
is kept in the folder RUNS: a command that was stopped goes on.
"""
import dataclasses,time
from pathlib import Path
from fastcore.script import call_parse
from edf_nrr.basics import changed, versions, write_json
from edf_nrr.files import parquet
from edf_nrr.report import FULL, RANDOM
from edf_nrr.compare import Protocol, compare
from edf_nrr.methods import QUICK_PRESET, Shared, entries_of

CANDIDATES = ['convnet_d1_w16', 'convnet_d1_w64', 'convnet_d2_w16', 'convnet_d2_w32', 'convnet_d2_w64', 'convnet_d3_w16', 'convnet_d3_w32', 'convnet_d3_w64', 'convnet_bn_d2_w32', 'convnet_bn_d3_w32']
PROTOCOL = Protocol(lrs=(.02,), soft_lrs=(.01,), checks=1)

@call_parse
def main(
    path:str, # Folder with the data
    seeds:int=3, # Students of each candidate
    budget:int=200, # Steps on ten images a class
    full_budget:int=1000, # Steps on all images
    ipc:int=10, # Images a class
    runs:str='runs/selection', # Folder for what is finished
    out:str='bench/results/selection.json' # Results file
):
    t0,runs = time.time(),Path(runs)
    data = parquet(path, size=16, n_train=10_000, n_test=2_000)
    shared = Shared(data, QUICK_PRESET, runs)
    protocol = changed(PROTOCOL, full_steps=full_budget)
    c = compare(data, entries_of(['edf', 'nrr-dd'], shared, ipc, sets=1), CANDIDATES, ['hard', 'own'], seeds, budget, protocol, runs, shared.teacher)
    orders = [dict(c.agreement(m, col), method=m, labels=col) for m in c.methods for col in (['hard'] if m in (FULL, RANDOM) else ['hard', 'own'])]
    for o in orders: print(o['method'], o['labels'], 'rank correlations', [round(v, 2) for v in o['spearman']], 'regret', [round(100*v, 1) for v in o['regret']], f"{o['seconds_full']/o['seconds']:.1f} x less time")
    write_json(out, dict(command=f'python bench/selection.py PATH --seeds {seeds} --budget {budget} --full_budget {full_budget}', seconds=round(time.time()-t0, 1), versions=versions(), data=data.name, size=16, n_train=len(data.train), n_test=len(data.test),
                         ipc=ipc, budget=budget, full_budget=full_budget, protocol=dataclasses.asdict(protocol), candidates=CANDIDATES, orders=orders,
                         rows=[{k: r[k] for k in ('method', 'labels', 'arch', 'accuracy', 'seeds', 'steps', 'seconds', 'seconds_to_make')} for r in c.rows]))
