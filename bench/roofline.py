"""How far the matching gradient is from what the machine can do

    python bench/roofline.py

Floating-point operations are counted by torch, the machine's rate is that of its own matrix product, measured in the same run; shares of the time are the
profiler's. What is not convolution or matrix product has no place in the count, so its share is what lies between the gradient and the limit.
"""
import statistics
import torch
from fastcore.script import call_parse
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from edf_nrr.basics import default_device, kept_memory, rng, versions, write_json
from edf_nrr.matching import unrolled_gradient
from matching import problem, seconds

KINDS = {'convolutions': ('convolution',), 'matrix products': ('aten::mm', 'aten::addmm', 'aten::bmm'), 'normalisation': ('group_norm',), 'pooling': ('avg_pool',),
         'elementwise': ('mul', 'add', 'div', 'sub', 'threshold', 'clamp', 'neg', 'pow', 'fill', 'zero', 'copy', 'rsqrt', 'relu', 'exp', 'softmax')}

def times(f, rounds):
    "Seconds of each call, after one that is not counted"
    return [seconds(f) for _ in range(rounds+1)][1:]

def matrix_rate(device, rounds, n=2048):
    "Most operations a second of a float32 matrix product"
    a,b = torch.randn(2, n, n, generator=rng(0)).to(device)
    return 2*n**3/min(times(lambda: a@b, 4*rounds))

def kind_of(op): return next((k for k,names in KINDS.items() if any(o in op for o in names)), 'other')

def shares(f, device):
    "Share of the profiled time by kind of operation"
    acts = [ProfilerActivity.CUDA if device.type=='cuda' else ProfilerActivity.CPU]
    with profile(activities=acts) as prof: seconds(f)
    res = dict.fromkeys([*KINDS, 'other'], 0.)
    for o in prof.key_averages():
        res[kind_of(o.key.lower())] += o.self_device_time_total if device.type=='cuda' else o.self_cpu_time_total
    return {k: v/sum(res.values()) for k,v in res.items()}

@kept_memory()
def measure(arch, size, ipc, batch, steps, rounds, device):
    _,p = problem(arch, size, ipc, steps, batch)
    f = lambda: unrolled_gradient(**p)
    took,rate = times(f, rounds),matrix_rate(device, rounds)
    with FlopCounterMode(display=False) as counter: f()
    flop = counter.get_total_flops()
    return dict(arch=arch, size=size, batch=batch, steps=steps, gflop_a_step=flop/steps/1e9, seconds_a_step=statistics.median(took)/steps, seconds_min=min(took)/steps,
                seconds_max=max(took)/steps, gflops=flop/statistics.median(took)/1e9, matrix_gflops=rate/1e9, share_of_limit=flop/statistics.median(took)/rate, shares=shares(f, device))

@call_parse
def main(
    rounds:int=5, # Turns of each
    out:str='bench/results/roofline.json' # Results file
):
    device,rows = default_device(),[]
    for arch,size,ipc,batch,steps in (('convnet_d2_w32', 16, 1, 10, 10), ('convnet_w32', 32, 10, 100, 3), ('convnet', 32, 10, 100, 2), ('convnet', 64, 2, 20, 2)):
        rows.append(measure(arch, size, ipc, batch, steps, rounds, device))
        print(rows[-1], flush=True)
    write_json(out, dict(command='python bench/roofline.py', versions=versions(), rounds=rounds, rows=rows))
