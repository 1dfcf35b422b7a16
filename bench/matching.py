"""Time and memory of the matching gradient: one graph of all steps, and the adjoint with all, half or none of the steps' graphs kept

    python bench/matching.py

Times alternate in one process and are given as ratios to the unrolled gradient; peak memory is that of a process of its own for each form and number of
steps, less what it has before the gradient is asked for. Random images and an expert's step of random direction: what is computed does not depend on values.
"""
import json,statistics,subprocess,sys,time
from functools import partial
from pathlib import Path
import torch
from fastcore.script import call_parse
from edf_nrr.core import rng, versions, write_json
from edf_nrr.matching import adjoint_gradient, draw_batches, forward_fn, unrolled_gradient
from edf_nrr.models import create_model, flatten_params

def forms(n): return {'unrolled': unrolled_gradient} | {f'adjoint, {k} graphs': partial(adjoint_gradient, graphs=g) for k,g in (('all', n), ('half the', n//2), ('no', 0))}

def problem(arch, size, ipc, n, batch):
    "Arguments of a gradient over `n` steps"
    net = create_model(arch, 10, size)
    start = flatten_params(net)
    target = start+.02*torch.randn(start.shape, generator=rng(0, 'target'))
    images,labels = torch.randn(10*ipc, 3, size, size, generator=rng(0, 'images')),torch.randn(10*ipc, 10, generator=rng(0, 'labels'))
    return forward_fn(net),start,target,images,labels,torch.tensor(.01),draw_batches(10*ipc, batch, n, rng(0, 'batches')),[None]*n

def status_mb(key): return next(int(l.split()[1])/1024 for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(key))

def memory(form, *args):
    "Peak MB of one gradient beyond what the process had after a step, parameters of the steps aside"
    code = f'import sys; sys.argv=["x"]; sys.path.insert(0, {str(sys.path[0])!r}); import matching as m; print(m._memory({form!r}, *{args!r}))'
    return float(subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True).stdout.split()[-1])

def _memory(form, arch, size, ipc, n, batch):
    p = problem(arch, size, ipc, n, batch)
    with torch.no_grad(): p[0](p[1], p[3][:2])
    Path('/proc/self/clear_refs').write_text('5') # Linux: the peak starts anew
    before = status_mb('VmRSS')
    forms(n)[form](*p)
    return status_mb('VmHWM')-before-n*4*len(p[1])/2**20

@call_parse
def main(
    arch:str='convnet_w32', # Network of the experts
    size:int=32, # Image side
    ipc:int=10, # Images a class, of ten classes
    batch:int=100, # Images a step
    steps:int=10, # Inner steps that are timed
    rounds:int=5, # Turns of all forms
    memory_steps:str='10,20,40,80', # Inner steps whose memory is measured
    out:str='bench/results/matching.json' # Results file
):
    t0,p = time.time(),problem(arch, size, ipc, steps, batch)
    took,rows = {k: [] for k in forms(steps)},[]
    ref = unrolled_gradient(*p)
    for r in range(rounds):
        for k,f in forms(steps).items():
            t = time.time(); res = f(*p); took[k].append(time.time()-t)
            if not r: rows.append(dict(form=k, error=((res[1]-ref[1]).norm()/ref[1].norm()).item()))
    for row in rows:
        ratio = [a/b for a,b in zip(took[row['form']], took['unrolled'])]
        row |= dict(seconds_a_step=statistics.median(took[row['form']])/steps, ratio_median=statistics.median(ratio), ratio_min=min(ratio), ratio_max=max(ratio),
                    peak_mb={n: round(memory(row['form'], arch, size, ipc, int(n), batch)) for n in memory_steps.split(',')})
        print(json.dumps(row), flush=True)
    write_json(out, dict(command=f'python bench/matching.py --arch {arch} --size {size} --ipc {ipc} --batch {batch} --steps {steps} --rounds {rounds} --memory_steps {memory_steps}',
                         seconds=round(time.time()-t0, 1), versions=versions(), arch=arch, size=size, ipc=ipc, batch=batch, steps=steps, rounds=rounds, rows=rows))
