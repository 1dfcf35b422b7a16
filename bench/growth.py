"""How time and memory grow with classes, images a class, image side and inner steps

    python bench/growth.py

One factor at a time is doubled from a small common setting; each point is a process of its own (median of some calls, peak memory). The exponent is the slope
of a line through the logarithms. Noise images: neither time nor memory depends on what they show. Where memory ends in published settings is reckoned from the
bytes that the graph of a step holds for an image, which grow with the batch in proportion.
"""
import json,math,statistics,subprocess,sys,tempfile,time
from pathlib import Path
import torch
from fastcore.script import call_parse
from scipy.stats import linregress
from edf_nrr.basics import default_device, kept_memory, rng, versions, write_json
from edf_nrr.core import Distilled, Normalize
from edf_nrr.data import ImageData, Split
from edf_nrr.models import create_model, flatten_params
from edf_nrr.training import Recipe, train_student
from edf_nrr.trajectory import record_experts
from edf_nrr.matching import adjoint_gradient, draw_batches, forward_fn, graph_bytes
from edf_nrr.matching import unrolled_gradient
from edf_nrr.presets import preset
from edf_nrr.nrr import refine
from edf_nrr.dbr import relabel
from matching import memory_now, peak_memory, seconds

BASE = dict(classes=10, ipc=10, size=16, steps=10)
FACTORS = dict(classes=(10, 20, 40, 80), ipc=(5, 10, 20, 40), size=(16, 32, 64), steps=(10, 20, 40, 80))
NORM = Normalize([.5]*3, [.25]*3)

def noise_set(classes, ipc, size):
    n,device = classes*ipc,default_device()
    return Distilled(torch.randn(n, 3, size, size, generator=rng(0)).to(device), (torch.arange(n)//ipc).to(device), [str(i) for i in range(classes)], NORM, lr=.01)

def gradient(form):
    def make(classes, ipc, size, steps):
        device,net = default_device(),create_model('convnet_w32', classes, size)
        start = flatten_params(net).to(device)
        syn = noise_set(classes, ipc, size)
        target = start+.02*torch.randn(start.shape, generator=rng(0, 'target')).to(device)
        logits = torch.randn(len(syn), classes, generator=rng(0, 'labels')).to(device)
        batches = [b.to(device) for b in draw_batches(len(syn), len(syn), steps, rng(0, 'batches'))]
        forward = forward_fn(net.to(device))
        return lambda: form(forward, start, target, syn.images, logits, torch.tensor(.01, device=device), batches, [None]*steps)
    return make

def experts(classes, ipc, size, steps):
    n = 100*classes
    y = torch.arange(n)%classes
    split = Split(torch.randint(256, (n, 3, size, size), generator=rng(0), dtype=torch.uint8), y)
    data = ImageData(split, Split(split.images[:classes], y[:classes]), [str(i) for i in range(classes)], NORM, device=default_device())
    def f():
        with tempfile.TemporaryDirectory() as d: record_experts(data, d, n=1, epochs=1, show=False)
    return f

def teacher(syn, size):
    net = create_model('convnet_bn_w32', len(syn.classes), size).to(syn.images.device).eval()
    net.classes = syn.classes
    return net

def refinement(classes, ipc, size, steps):
    syn = noise_set(classes, ipc, size)
    net = teacher(syn, size)
    return lambda: refine(syn, net, iterations=5, show=False)

def labelling(classes, ipc, size, steps):
    syn = noise_set(classes, ipc, size)
    net = teacher(syn, size)
    return lambda: relabel(syn, net, epochs=10, show=False)

def student(classes, ipc, size, steps):
    syn = noise_set(classes, ipc, size)
    return lambda: train_student(syn, 'convnet_w32', 0, Recipe(epochs=5))

TOPICS = {'matching, unrolled': (gradient(unrolled_gradient), 'classes ipc size steps'), 'matching, adjoint': (gradient(adjoint_gradient), 'classes ipc size steps'),
          'experts, an epoch': (experts, 'classes size'), 'NRR, five iterations': (refinement, 'classes ipc size'), 'relabelling, ten epochs': (labelling, 'classes ipc size'),
          'a student, five epochs': (student, 'classes ipc size')}

@kept_memory()
def turn(topic, at, calls):
    "Median seconds of a topic at a setting, and its peak memory"
    f = TOPICS[topic][0](**at)
    TOPICS[topic][0](**BASE | dict(classes=2, ipc=1, steps=1))() # a small one, so that libraries are loaded
    before = memory_now()
    f()
    peak = peak_memory()-before
    return dict(seconds=statistics.median(seconds(f) for _ in range(calls)), peak_mb=peak)

def measured(topic, at, calls):
    code = f'import sys,json; sys.argv=["x"]; sys.path.insert(0, {str(Path(__file__).parent)!r}); import growth as g; print(json.dumps(g.turn({topic!r}, {at!r}, {calls})))'
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    if out.returncode: raise RuntimeError(f'{topic} at {at}: {out.stderr[-2000:]}')
    return json.loads(out.stdout.splitlines()[-1])

def limits(data, ipc, method, classes, size):
    "GB of a published setting's gradient both ways, and what 24 and 80 GB would hold; the graph of one step is counted for two images and scaled"
    cfg = preset(data, ipc, method)
    net = create_model(cfg.arch, classes, size)
    x,batch = torch.randn(2, 3, size, size, generator=rng(0)),min(cfg.batch_syn, ipc*classes)
    a_image = graph_bytes(forward_fn(net), flatten_params(net), x, x.new_full((2, classes), 1/classes))/2
    gb = lambda steps, batch: steps*batch*a_image/1e9
    most = {m: dict(steps=int(m/gb(1, batch)), batch=int(m/gb(1, 1))) for m in (24, 80)}
    return dict(data=data, ipc=ipc, method=method, arch=cfg.arch, size=size, batch=batch, steps=cfg.syn_steps, mb_an_image=a_image/1e6,
                unrolled_gb=gb(cfg.syn_steps, batch), adjoint_gb=gb(1, batch), most=most)

PUBLISHED = [('cifar10', 10, 'datm', 10, 32), ('cifar10', 50, 'datm', 10, 32), ('tiny', 10, 'edf', 200, 64), ('imagenette', 10, 'edf', 10, 128), ('imagenette', 50, 'edf', 10, 128)]

def exponent(x, y):
    "Slope of log y over log x, and its standard error"
    fit = linregress([math.log(o) for o in x], [math.log(max(o, 1e-9)) for o in y])
    return fit.slope,fit.stderr

@call_parse
def main(
    calls:int=3, # Timed calls at each point
    out:str='bench/results/growth.json' # Results file
):
    t0,rows = time.time(),[]
    for topic,(_,factors) in TOPICS.items():
        for factor in factors.split():
            points = [measured(topic, BASE | {factor: v}, calls) for v in FACTORS[factor]]
            row = dict(topic=topic, factor=factor, values=FACTORS[factor], seconds=[o['seconds'] for o in points], peak_mb=[round(o['peak_mb'], 1) for o in points])
            row |= dict(time_exponent=exponent(FACTORS[factor], row['seconds']), memory_exponent=exponent(FACTORS[factor], row['peak_mb']))
            rows.append(row)
            print(f"{topic:24} {factor:8} time ^{row['time_exponent'][0]:.2f}, memory ^{row['memory_exponent'][0]:.2f}  {[round(o, 3) for o in row['seconds']]} s  {row['peak_mb']} MB", flush=True)
    write_json(out, dict(command=f'python bench/growth.py --calls {calls}', seconds=round(time.time()-t0, 1), versions=versions(), base=BASE, calls=calls, rows=rows, limits=[limits(*o) for o in PUBLISHED]))
