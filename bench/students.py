"""Five students in one program (vmap) against one after another

    python bench/students.py

The two take turns in one process; the ratio is of their seconds, so below 1 means that one program is faster. `training._together` follows this.
"""
import time
import torch
from fastcore.script import call_parse
from edf_nrr.core import Distilled, Normalize, default_device, rng, versions, write_json
from edf_nrr.training import Recipe, train_student, train_students

def problem(ipc, size, device):
    "Noise with labels: time does not depend on what the pixels show"
    n = 10*ipc
    return Distilled(torch.randn(n, 3, size, size, generator=rng(0)).to(device), (torch.arange(n)//ipc).to(device), [str(i) for i in range(10)], Normalize([.5]*3, [.25]*3), lr=.01)

def seconds(f, device):
    "Wall time of `f()`"
    if device.type=='cuda': torch.cuda.synchronize()
    t = time.perf_counter(); f()
    if device.type=='cuda': torch.cuda.synchronize()
    return time.perf_counter()-t

@call_parse
def main(
    seeds:int=5, # Students
    rounds:int=5, # Turns of each
    out:str='bench/results/students.json' # Results file
):
    device,rows = default_device(),[]
    for arch,size,ipc in (('convnet_d1_w16', 8, 1), ('convnet_d2_w32', 16, 1), ('convnet_d2_w32', 16, 10), ('convnet_d3_w128', 32, 1), ('convnet_d3_w128', 32, 10)):
        syn = problem(ipc, size, device)
        epochs = max(1, 60//ipc) if size<32 else 2
        recipe = Recipe(epochs=epochs)
        one = lambda: train_students(syn, arch, range(seeds), recipe)
        many = lambda: [train_student(syn, arch, s, recipe) for s in range(seeds)]
        one(); many()
        times = [(seconds(one, device), seconds(many, device)) for _ in range(rounds)]
        ratios = sorted(a/b for a,b in times)
        values = min(len(syn), recipe.batch_size)*syn.images[0].numel()
        rows.append(dict(arch=arch, size=size, ipc=ipc, values_a_batch=values, ratio_median=ratios[rounds//2], ratio_min=ratios[0], ratio_max=ratios[-1], seconds_together=min(a for a,_ in times)))
        print(f'{arch:>16} {size}px IPC {ipc:2}: {values:7,} values a batch, together/one by one {ratios[rounds//2]:.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})', flush=True)
    write_json(out, dict(command='python bench/students.py', versions=versions(), seeds=seeds, rounds=rounds, rows=rows))
