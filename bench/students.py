"""Students in one program (vmap) against one after another, by network, images a class and number of students

    python bench/students.py

The two take turns in one process, freed memory kept throughout as `evaluate` does; the ratio is of their seconds, so below 1 means that one program is faster.
`chosen` says what `evaluate` takes by itself (`training.faster_together`).
"""
import time
import torch
from fastcore.script import call_parse
from edf_nrr.basics import default_device, kept_memory, rng, versions, write_json
from edf_nrr.core import Distilled, Normalize
from edf_nrr.training import Recipe, faster_together, train_student, train_students

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

CASES = (('convnet_d1_w16', 8, 1), ('convnet_d2_w32', 16, 1), ('convnet_d2_w32', 16, 10), ('convnet_d3_w128', 32, 1), ('convnet_d3_w128', 32, 10))
GROWTH = (('convnet_d1_w16', 8, 1), ('convnet_d2_w32', 16, 1))

def race(arch, size, ipc, n, rounds, device):
    "One row: `n` students together and one by one"
    syn = problem(ipc, size, device)
    recipe = Recipe(epochs=max(1, 60//ipc) if size<32 else 2)
    one = lambda: train_students(syn, arch, range(n), recipe)
    many = lambda: [train_student(syn, arch, s, recipe) for s in range(n)]
    with kept_memory():
        one(); many()
        times = [(seconds(one, device), seconds(many, device)) for _ in range(rounds)]
    ratios = sorted(a/b for a,b in times)
    row = dict(arch=arch, size=size, ipc=ipc, students=n, values_a_batch=min(len(syn), recipe.batch_size)*syn.images[0].numel(), ratio_median=ratios[rounds//2], ratio_min=ratios[0], ratio_max=ratios[-1],
               seconds_together=min(a for a,_ in times), chosen='together' if faster_together(syn, recipe, n) else 'one by one')
    print(f'{arch:>16} {size}px IPC {ipc:2}, {n:2} students: together/one by one {ratios[rounds//2]:.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f}), chosen: {row["chosen"]}', flush=True)
    return row

@call_parse
def main(
    seeds:int=5, # Students
    growth:str='2,5,10,20', # Numbers of students for the smaller networks
    rounds:int=5, # Turns of each
    out:str='bench/results/students.json' # Results file
):
    device = default_device()
    rows = [race(*case, seeds, rounds, device) for case in CASES] + [race(*case, int(n), rounds, device) for case in GROWTH for n in growth.split(',') if int(n)!=seeds]
    write_json(out, dict(command=f'python bench/students.py --seeds {seeds} --growth {growth} --rounds {rounds}', versions=versions(), seeds=seeds, rounds=rounds, rows=rows))
