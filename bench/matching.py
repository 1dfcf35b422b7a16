"""The matching gradient: its forms against each other, and an iteration against the published EDF release

    python bench/matching.py [--edf CHECKOUT]

Every turn of a contestant is a process of its own, so that each has its own memory and its own way with freed memory; turns alternate. Times are of the
second gradient of a process, peak memory is that of the process less what it had before. Random images and an expert's step of random direction: what is
computed does not depend on values.
"""
import contextlib,json,statistics,subprocess,sys,time,types
from functools import partial
from pathlib import Path
import torch
from fastcore.script import call_parse
from edf_nrr.basics import default_device, kept_memory, rng, versions, write_json
from edf_nrr.models import convnet_depth, create_model, flatten_params
from edf_nrr.augment import DSA
from edf_nrr.matching import CompiledStep, adjoint_gradient, draw_batches, forward_fn
from edf_nrr.matching import unrolled_gradient
from edf_nrr.cpd import cpd

def problem(arch, size, ipc, n, batch, dtype=torch.float32, augment=None):
    "Arguments of a gradient over `n` steps"
    device,net = default_device(),create_model(arch, 10, size)
    start = flatten_params(net)
    tensors = dict(start=start, target=start+.02*torch.randn(start.shape, generator=rng(0, 'target')), images=torch.randn(10*ipc, 3, size, size, generator=rng(0, 'images')),
                   labels=3*torch.randn(10*ipc, 10, generator=rng(0, 'labels')), lr=torch.tensor(.01))
    batches = [b.to(device) for b in draw_batches(10*ipc, batch, n, rng(0, 'batches'))]
    views = [augment.draw(len(b), size, rng(0, 'views', i)).to(device) if augment else None for i,b in enumerate(batches)]
    net = net.to(device, dtype)
    return net,{k: v.to(device, dtype) for k,v in tensors.items()} | dict(forward=forward_fn(net), batches=batches, views=views, augment=augment, keep=cpd(.25))

def channels_last(forward): return lambda theta, x: forward(theta, x.contiguous(memory_format=torch.channels_last))
def bfloat16(forward):
    def f(theta, x):
        with torch.autocast(x.device.type, torch.bfloat16): return forward(theta, x).float()
    return f

STEPS = {}
def compiled_step(dtype, size, net):
    "One for each kind of parameter vector, so that it is compiled once in a process"
    return STEPS.setdefault((dtype, size), CompiledStep(net))

def form(name, net, p):
    "The gradient under a name, as a function without arguments"
    if name.startswith('compiled'): return partial(adjoint_gradient, **p | dict(forward=compiled_step(p['start'].dtype, len(p['start']), net)))
    if name.startswith('adjoint'): return partial(adjoint_gradient, **p, graphs={'all': len(p['batches']), 'half': len(p['batches'])//2, 'no': 0}[name.split()[1]])
    change = next((f(p['forward']) for k,f in (('channels_last', channels_last), ('bfloat16', bfloat16)) if k in name), p['forward'])
    return partial(unrolled_gradient, **p | dict(forward=change))

FORMS = ['unrolled, memory handed back', 'unrolled', 'adjoint all graphs', 'adjoint half the graphs', 'adjoint no graphs', 'compiled', 'unrolled channels_last', 'unrolled bfloat16']

def release(edf, net, size, p, strategy):
    "An iteration of the EDF release, its own statements from the student's first step to the three optimisers' steps, as a function without arguments"
    import scipy.ndimage
    from reference import modules, statements
    unused = 'kornia wandb yacs yacs.config torchcam torchcam.methods torchcam.utils tqdm'.split()
    published,networks,reparam = modules(edf, 'distill.edf_distill', 'networks', 'reparam_module', unused=unused, aliases={'scipy.ndimage.interpolation': scipy.ndimage})
    of_main = partial(statements, published.__file__, 'main')
    loop = of_main(lambda s: s.startswith('syn_images = '), lambda s: s.startswith('if grand_loss <= '))
    ns,depth = dict(vars(published)),convnet_depth(size)
    exec(of_main(*[lambda s: s.startswith('def SoftCrossEntropy(')]*2), ns)
    width = net.classifier.in_features//(size>>depth)**2
    student = reparam.ReparamModule(networks.ConvNet(3, 10, width, depth, 'relu', 'instancenorm', 'avgpooling', (size, size)).to(p['start']))
    args = types.SimpleNamespace(syn_steps=len(p['batches']), batch_syn=len(p['batches'][0]), dsa=bool(strategy), no_aug=not strategy, dsa_strategy=strategy,
                                 dsa_param=published.ParamDiffAug(), distributed=False, device=p['start'].device, loss_threshold=.25, threshold=float('inf'), beta=1.,
                                 act_threshold=0, ipc=len(p['images'])//10)
    def iteration():
        x,y,lr = (p[k].clone().requires_grad_() for k in ('images', 'labels', 'lr'))
        opt = {k: torch.optim.SGD([t], lr=0., momentum=.5) for k,t in (('optimizer_img', x), ('optimizer_y', y), ('optimizer_lr', lr))}
        here = ns | opt | dict(args=args, image_syn=x, label_syn=y, syn_lr=lr, student_net=student, criterion=ns['SoftCrossEntropy'], num_params=len(p['start']),
                               student_params=[p['start'].clone().requires_grad_()], starting_params=p['start'], target_params=p['target'],
                               activation_maps_deep=x.new_zeros(len(x), size, size), num_classes=10, it=1, start_epoch=0) # maps of zeros weigh every pixel by one
        exec(loop, here)
        return here['grand_loss'].detach(),x.grad,y.grad,lr.grad
    return iteration

def status_mb(key): return next(int(l.split()[1])/1024 for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(key))

def memory_now():
    "MB in use, from where the peak counts anew"
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()/2**20
    Path('/proc/self/clear_refs').write_text('5') # Linux
    return status_mb('VmRSS')

def peak_memory(): return torch.cuda.max_memory_allocated()/2**20 if torch.cuda.is_available() else status_mb('VmHWM')

def seconds(f):
    if torch.cuda.is_available(): torch.cuda.synchronize()
    t = time.perf_counter(); f()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return time.perf_counter()-t

def contestant(name, arch, size, ipc, n, batch, edf=None, augment=False):
    net,p = problem(arch, size, ipc, n, batch, augment=DSA() if augment else None)
    return release(edf, net, size, p, p['augment'].strategy if augment else '') if name.startswith('EDF release') else form(name, net, p)

def turn(name, timed, arch, size, ipc, n, batch, *args):
    "Seconds of the second gradient (of the first, if not `timed`), and peak MB beyond what the process had before the first, parameters of the steps aside"
    if name.startswith('compiled'): contestant(name, arch, size, ipc, 1, batch, *args)() # compiles, and hands its memory back
    with contextlib.nullcontext() if 'handed back' in name else kept_memory(): return _turn(name, timed, arch, size, ipc, n, batch, *args)

def _turn(name, timed, arch, size, ipc, n, batch, *args):
    f = contestant(name, arch, size, ipc, n, batch, *args)
    net,p = problem(arch, size, ipc, 1, 2)
    form('unrolled', net, p)() # a small one, so that libraries are loaded
    before = memory_now()
    first = seconds(f)
    return dict(seconds=seconds(f) if timed else first, peak_mb=peak_memory()-before-n*4*len(p['start'])/2**20)

def race(names, rounds, *args, timed=True):
    "Rows of the contestants after some rounds of turns; the first one is what the others are measured by"
    res = {k: [] for k in names}
    for _ in range(rounds):
        for name in names:
            code = f'import sys,json; sys.argv=["x"]; sys.path.insert(0, {str(Path(__file__).parent)!r}); import matching as m; print(json.dumps(m.turn({name!r}, {timed}, *{args!r})))'
            out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
            if out.returncode: raise RuntimeError(f'{name}: {out.stderr[-2000:]}')
            res[name].append(json.loads(out.stdout.splitlines()[-1]))
            print(name, res[name][-1], flush=True)
    first = [o['seconds'] for o in res[names[0]]]
    def row(name, turns):
        ratio = [o['seconds']/f for o,f in zip(turns, first)]
        return dict(form=name, seconds=statistics.median(o['seconds'] for o in turns), ratio_median=statistics.median(ratio), ratio_min=min(ratio), ratio_max=max(ratio),
                    peak_mb=round(statistics.median(o['peak_mb'] for o in turns)))
    return [row(*o) for o in res.items()]

def distance(a, b): return max(((u.double()-v).norm()/v.norm()).item() for u,v in zip(a[:4], b) if u is not None)

def errors(names, arch, size, ipc, n, batch):
    "Largest relative distance of loss and gradients from the unrolled gradient in float64"
    exact = form('unrolled', *problem(arch, size, ipc, n, batch, torch.float64))()
    return {k: distance(form(k, *problem(arch, size, ipc, n, batch))(), exact) for k in names}

def agreement(edf, arch, size, ipc, n, batch):
    "The release's loss and gradient against ours, in float32 and float64, without augmentation: its own comes from another source of randomness"
    res = {}
    for dtype in (torch.float32, torch.float64):
        net,p = problem(arch, size, ipc, n, batch, dtype)
        theirs,ours = release(edf, net, size, p, '')(),form('adjoint no graphs', net, p)()
        res[str(dtype).removeprefix('torch.')] = dict(loss=abs((ours[0]/theirs[0]-1).item()), gradient=distance(ours[1:], [o.double() for o in theirs[1:]]))
    return res

@call_parse
def main(
    edf:str=None, # Checkout of the EDF release; without: our own forms only
    archs:str='convnet_w32,convnet', # Networks of the forms
    size:int=32, # Image side
    ipc:int=10, # Images a class, of ten classes
    batch:int=100, # Images a step
    steps:int=2, # Inner steps that are timed, of the forms
    rounds:int=3, # Turns of every form
    memory_steps:str='10,40,80', # Inner steps whose memory is measured
    edf_steps:int=6, # Inner steps that are timed, against the release
    edf_memory_steps:int=40, # And whose memory is measured
    out:str='bench/results/matching.json' # Results file
):
    t0,res = time.time(),dict(forms={}, memory={})
    for arch in archs.split(','):
        wrong = errors(FORMS, arch, size, ipc, steps, batch)
        res['forms'][arch] = [o | dict(error=wrong[o['form']]) for o in race(FORMS, rounds, arch, size, ipc, steps, batch)]
    small = archs.split(',')[0]
    for name in ('unrolled', 'adjoint no graphs', 'compiled'):
        res['memory'][name] = {n: race([name], 1, small, size, ipc, int(n), batch, timed=False)[0]['peak_mb'] for n in memory_steps.split(',')}
    if edf:
        names = ['EDF release, memory handed back', 'EDF release', 'adjoint no graphs', 'adjoint half the graphs', 'adjoint all graphs']
        res['release'] = dict(steps=edf_steps, memory_steps=edf_memory_steps, agreement=agreement(edf, 'convnet', size, ipc, 3, batch),
                              rows=race(names, rounds, 'convnet', size, ipc, edf_steps, batch, edf, True),
                              memory={o['form']: o['peak_mb'] for o in race(names[1:-1], 1, 'convnet', size, ipc, edf_memory_steps, batch, edf, True, timed=False)})
    write_json(out, dict(command=f'python bench/matching.py{" --edf CHECKOUT" if edf else ""}', seconds=round(time.time()-t0, 1), versions=versions(), size=size, ipc=ipc,
                         batch=batch, steps=steps, rounds=rounds, threads=torch.get_num_threads(), small=small) | res)
