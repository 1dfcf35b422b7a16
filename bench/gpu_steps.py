"""What bench/gpu.py measures: one function a step, which keeps each result as soon as it is there and stops when its time is over"""
import dataclasses,gc,subprocess,sys,tempfile,time
from functools import partial
from pathlib import Path
import torch, torch.nn.functional as F
from torch.func import functional_call, grad, grad_and_value, vmap
from torch.utils._pytree import tree_map
from edf_nrr.basics import changed, default_device, load_tensors, read_json
from edf_nrr.basics import rng, save_tensors, versions, write_json
from edf_nrr.core import input_space
from edf_nrr.data import ImageData, Split
from edf_nrr.datasets import cluttered_digits
from edf_nrr.files import parquet
from edf_nrr.models import create_model
from edf_nrr.augment import DSA
from edf_nrr.training import DATM_RECIPE, EDF_RECIPE, Recipe, evaluate, random_real
from edf_nrr.training import train_teacher, tune_lr
from edf_nrr.trajectory import Experts, FTD_EXPERTS, MTT_EXPERTS, expert_accuracy, expert_forward
from edf_nrr.trajectory import expert_step, gsam_gradient, loss_gradient, record_experts
from edf_nrr.matching import CompiledStep, adjoint_gradient, augmented, compiled, forward_fn, matching_loss
from edf_nrr.matching import plain_norms, soft_cross_entropy, unrolled_gradient
from edf_nrr.edf import EDFConfig, VARIANTS, distill
from edf_nrr.presets import preset
from edf_nrr.cidd import initialise
from edf_nrr.nrr import refine
from edf_nrr.dbr import evaluate_labels, relabel
from edf_nrr.baselines import herding, k_center, rded, sre2l
from edf_nrr.dm import dm
import matching as race, resnet_cifar10 as resnet

PUBLISHED = {'cifar10_ipc1': {'random real': .154, 'datm': .469}, 'cifar10_ipc10': dict(datm=.668), 'imagenette_ipc1': dict(datm=.525, edf=.526), 'imagenette_ipc10': dict(datm=.689, edf=.710)}
LIMITS = {'memory traffic of an H200': 60*100/2.3, '36 % of its arithmetic': 60*100/3.5} # CIFAR-10 experts of 50 epochs an hour

@dataclasses.dataclass
class Job:
    "A step at work: where it keeps things, what it has kept already, and how long it may go on"
    name:str # Of the step
    runs:Path # Folder of the queue
    end:float # `time.time()` at which to stop
    tiny:bool = False # A rehearsal?
    data:dict = None # Name of a data set to its folder
    edf:str = None # Checkout of the EDF release

    def __post_init__(self):
        self.file,self.t0 = self.runs/'steps'/f'{self.name}.json',time.time()
        self.kept = read_json(self.file) if self.file.exists() else {}
        self.spent = self.kept.get('seconds', 0.)

    def left(self): return self.end-time.time()

    def keep(self, **more):
        "Write what is known so far"
        self.kept |= dict(more, seconds=round(self.spent+time.time()-self.t0, 1), tiny=self.tiny, versions=versions())
        write_json(self.file, self.kept)

    def units(self, jobs):
        "Run functions by name that give a row each; keep each row at once, also the error of one that fails. Ends early without time; True at the end"
        rows = self.kept.get('rows', [])
        known = {r['name'] for r in rows}
        for name,f in jobs.items():
            if name in known: continue
            if self.left()<0: return False
            try: row = dict(name=name, **f())
            except Exception as e: row = dict(name=name, error=f'{type(e).__name__}: {e}'[-400:])
            rows.append(row)
            self.keep(rows=rows)
            print(row, flush=True)
            if 'CUDA error' in str(row.get('error')): raise SystemExit('CUDA cannot be used in this process any more')
            gc.collect()
            if torch.cuda.is_available(): torch.cuda.empty_cache()
        return True

# ---- 0: does it run?

def cuda_tests(job):
    "The tests that need CUDA, in a process of their own"
    tests = Path(__file__).resolve().parent.parent/'tests'
    which = [tests/'test_cuda.py'] if job.tiny else [o for o in sorted(tests.glob('test_*.py')) if 'cuda' in o.read_text() and o.name!='test_bench_gpu.py']
    p = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-k', 'cuda', *map(str, which)], capture_output=True, text=True, timeout=max(1, job.left()))
    return dict(status=p.returncode, says=p.stdout.strip().splitlines()[-1:], failed=[o for o in p.stdout.splitlines() if o.startswith('FAILED')])

def public_methods(device):
    "Every public method once, as functions without arguments, tiny"
    data = cluttered_digits(300, 100, size=16, object_fraction=.6, device=device)
    arch,norm,folder,made = 'convnet_d2_w8','convnet_bn_d2_w8',Path(tempfile.mkdtemp()),{}
    recipe,cfg = Recipe(epochs=4),EDFConfig(ipc=1, iterations=2, syn_steps=3, initial_max_start_epoch=None, max_start_epoch=2, init='random', lr_img=10., cam_interval=1)
    def teacher(): return made.setdefault('teacher', train_teacher(data, norm, epochs=10, lr=1e-2, batch_size=32, augment=None, show=False))
    def experts(**more): return record_experts(data, folder/'-'.join(['experts', *more]), n=1, epochs=3, arch=arch, lr=.05, show=False, **more)
    def matched(**more): return distill(data, experts(), changed(cfg, **more), show=False)
    def labelled(kind): return evaluate_labels(random_real(data, 2), relabel(random_real(data, 2), teacher(), kind, epochs=4, show=False), data, arch, 1)
    jobs = dict(teacher=teacher, experts=experts, experts_gsam=partial(experts, rule='gsam'), experts_bfloat16=partial(experts, amp=True))
    jobs |= {'distill '+' '.join(map(str, k.values())): partial(matched, **k) for k in (dict(gradient='adjoint'), dict(gradient='unrolled'), dict(gradient='adjoint', graphs=0))}
    if device.type=='cuda': jobs['distill compiled'] = partial(matched, gradient='compiled')
    jobs |= {k: lambda f=f: f(data, teacher(), 2) for k,f in dict(herding=herding, k_center=k_center, rded=rded).items()}
    jobs |= dict(dm=lambda: dm(data, ipc=2, batch_real=8, arch=arch, iterations=2, show=False), sre2l=lambda: sre2l(data, teacher(), 1, iterations=2, show=False))
    jobs |= {'cidd and nrr': lambda: refine(initialise(data, teacher(), 2, require_correct=False), teacher(), iterations=3, show=False)}
    jobs |= {f'labels {k}': partial(labelled, k) for k in ('distances', 'soft', 'topk', 'components')}
    return jobs | dict(students=lambda: evaluate(random_real(data, 2), data, arch, 3, recipe, together=True))

def smoke(job):
    "Runs everything once"
    def timed(f): return lambda: dict(seconds=round(race.seconds(f), 3))
    jobs = {k: timed(f) for k,f in public_methods(default_device()).items()}
    return job.units(jobs | {'tests that need CUDA': partial(cuda_tests, job)})

# ---- 1: the matching iteration

class Graph:
    "A function of tensors of certain shapes as one CUDA graph, whose inputs have fixed places. On the CPU the function is called"
    def __init__(self, f, inputs): self.f,self.inputs,self.graph = f,[o.detach().clone() for o in inputs],None

    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3): self.f(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph): self.outputs = self.f(*self.inputs)

    def __call__(self, *inputs):
        for own,new in zip(self.inputs, inputs, strict=True): own.copy_(new)
        if not self.inputs[0].is_cuda: return self.f(*self.inputs)
        if self.graph is None: self.capture()
        self.graph.replay()
        return tree_map(torch.clone, self.outputs)

class Replayed:
    "A function of tensors with a `Graph` for each combination of shapes"
    def __init__(self, f): self.f,self.graphs = f,{}

    def __call__(self, *inputs):
        shapes = tuple(tuple(o.shape) for o in inputs)
        if shapes not in self.graphs: self.graphs[shapes] = Graph(self.f, inputs)
        return self.graphs[shapes](*inputs)

def of_step(net, plain=False):
    "Functions of an inner step: the gradient of its loss, and the products with its second derivatives"
    f = forward_fn(plain_norms(net) if plain else net)
    def loss(theta, x, probs): return soft_cross_entropy(f(theta, x), probs)
    def along(theta, x, probs, v): return (grad(loss)(theta, x, probs)*v).sum()
    return grad(loss),grad_and_value(along, argnums=(0, 1, 2))

class ReplayedStep(CompiledStep):
    "A step of the adjoint whose two functions are CUDA graphs"
    def __init__(self, net, of=lambda f: f):
        self.forward = forward_fn(net)
        self.gradient,self.second = (Replayed(of(f)) for f in of_step(net))

def segments_gradient(net, n, start, target, images, labels, lr, batches, views, augment=None, keep=None, **unused):
    "The adjoint over `n` segments at once, which here are equal: every step is one program for all of them. Loss and gradients of the mean"
    first,second = (vmap(f) for f in of_step(net, plain=True))
    probs,theta,thetas = labels.softmax(1),start.expand(n, -1),[]
    def seen(rows, view): return augmented(images[rows], augment, view).expand(n, -1, -1, -1, -1)
    for rows,view in zip(batches, views):
        thetas.append(theta)
        theta = theta - lr*first(theta, seen(rows, view), probs[rows].expand(n, -1, -1))
    end = theta.detach().requires_grad_()
    loss = torch.stack([matching_loss(o, start, target, keep) for o in end]).mean()
    v = torch.autograd.grad(loss, end)[0]
    g_images,g_probs,g_lr = (torch.zeros_like(o) for o in (images, probs, lr))
    for rows,view in reversed(list(zip(batches, views))):
        leaf = images[rows].detach().requires_grad_()
        x = augmented(leaf, augment, view)
        (d_theta,d_seen,d_y),h = second(thetas.pop(), x.detach().expand(n, -1, -1, -1, -1), probs[rows].expand(n, -1, -1), v)
        v = v - lr*d_theta
        d_x = d_seen.sum(0) if x is leaf else torch.autograd.grad(x, leaf, d_seen.sum(0))[0]
        g_images.index_add_(0, rows, d_x, alpha=-1)
        g_probs.index_add_(0, rows, d_y.sum(0), alpha=-1)
        g_lr -= h.sum()
    leaf = labels.detach().requires_grad_()
    return loss.detach(),lr*g_images,torch.autograd.grad(leaf.softmax(1), leaf, lr*g_probs)[0],g_lr

def full_precision(f):
    "A function whose convolutions and products are not in TF32, in which torch lets cuDNN convolve"
    def g():
        old = torch.backends.cudnn.allow_tf32,torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        try: return f()
        finally: torch.backends.cudnn.allow_tf32,torch.backends.cuda.matmul.allow_tf32 = old
    return g

def matching_forms(net, p):
    "Name to a function without arguments, most telling first"
    n,adjoint = len(p['batches']),partial(adjoint_gradient, **p)
    def with_step(make): return partial(adjoint_gradient, **p | dict(forward=make(net)))
    def several(k): return partial(segments_gradient, net, k, **p)
    forms = {'unrolled': lambda: partial(unrolled_gradient, **p), 'adjoint no graphs': lambda: adjoint, 'adjoint all graphs': lambda: partial(adjoint, graphs=n),
             'CUDA graphs': lambda: with_step(ReplayedStep)}
    forms |= {'unrolled, no TF32': lambda: full_precision(partial(unrolled_gradient, **p)), 'CUDA graphs, no TF32': lambda: full_precision(with_step(ReplayedStep))}
    forms |= {f'unrolled {k}': lambda f=f: partial(unrolled_gradient, **p | dict(forward=f(p['forward']))) for k,f in dict(bfloat16=race.bfloat16, channels_last=race.channels_last).items()}
    forms |= {f'{k} segments at once': partial(several, k) for k in (2, 4, 8)}
    return forms | {'compiled': lambda: with_step(CompiledStep), 'compiled, CUDA graphs': lambda: with_step(lambda net: ReplayedStep(net, compiled))}

def timed_form(f, repeats, steps, exact, segments=1):
    "Seconds and memory of a form, and how far its numbers are from the adjoint's without TF32"
    got = f()
    before = race.memory_now()
    took = sorted(race.seconds(f) for _ in range(repeats))
    row = dict(seconds_a_step=took[len(took)//2]/steps/segments, least=took[0]/steps/segments, gb=round((race.peak_memory()-before)/1024, 3))
    return row | dict(error=race.distance(got, [o.double() for o in exact]))

def compiled_last(jobs):
    "What has to be compiled takes a minute each, so it comes last"
    return dict(sorted(jobs.items(), key=lambda o: 'compiled' in o[0]))

def matching(job):
    "An iteration of N steps in every form, for one and for ten images a class; against the release, where there is a checkout"
    arch,size,steps,repeats = ('convnet_d2_w8', 16, 3, 1) if job.tiny else ('convnet', 32, 80, 3)
    exact = {}
    def rows(ipc, name):
        net,p = race.problem(arch, size, ipc, steps, 10*ipc, augment=DSA())
        if ipc not in exact: exact[ipc] = full_precision(partial(adjoint_gradient, **p))()
        segments = int(name.split()[0]) if 'segments' in name else 1
        return timed_form(matching_forms(net, p)[name](), repeats, steps, exact[ipc], segments) | dict(ipc=ipc, steps=steps, arch=arch, size=size)
    names = list(matching_forms(*race.problem(arch, size, 1, 1, 10)))
    if job.tiny: names = [o for o in names if 'ompiled' not in o]
    jobs = {f'IPC {ipc}: {o}': partial(rows, ipc, o) for ipc in ((1,) if job.tiny else (10, 1)) for o in names}
    return job.units(compiled_last(jobs))

def release(job):
    "An iteration of the EDF release beside ours, its own statements, ten images a class, N=80"
    if not job.edf: return job.units({'not measured': lambda: dict(why='no checkout of the release was given (--edf)')})
    size,steps,repeats = 32,2 if job.tiny else 80,1 if job.tiny else 3
    net,p = race.problem('convnet', size, 1 if job.tiny else 10, steps, 10 if job.tiny else 100, augment=DSA())
    exact = full_precision(partial(adjoint_gradient, **p))()
    ours = {k: partial(timed_form, f(), repeats, steps, exact) for k,f in list(matching_forms(net, p).items())[:4]}
    def theirs(): return timed_form(race.release(job.edf, net, size, p, p['augment'].strategy), repeats, steps, exact) | dict(error=None) # its augmentation draws otherwise
    def agree(): return race.agreement(job.edf, 'convnet', size, 1, 2, 10)
    return job.units({'EDF release': theirs, **ours, 'agreement without augmentation': agree})

# ---- 2: experts

def stacked_experts(cfg, nets):
    "Parameters of several experts, stacked, and the gradient of all in one program"
    names,shapes = zip(*[(k, p) for k,p in nets[0].named_parameters()])
    params = [torch.stack([dict(o.named_parameters())[k].detach() for o in nets]) for k in names]
    def loss(params, x, y):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=cfg.amp): out = functional_call(nets[0], dict(zip(names, params)), (x,)).float()
        return F.cross_entropy(out, y)
    return params,vmap(grad(loss))

def expert_rate(data, cfg, n, form, steps):
    "Experts of 50 epochs an hour by one form, from the time of some steps of `n` experts at once"
    nets = [create_model(cfg.arch, data.n_classes, data.size, data.channels, seed=i).to(data.device) for i in range(n)]
    params,gradient = stacked_experts(cfg, nets)
    if n==1:
        params,forward = [o[0].clone() for o in params],expert_forward(nets[0], cfg)
        def gradient(ps, x, y): return loss_gradient(forward, x, y)(ps)
    if form=='CUDA graph': replayed = Replayed(lambda *o: gradient(list(o[:-2]), *o[-2:]))
    velocity,b = [torch.zeros_like(o) for o in params],min(cfg.batch_size, len(data.train))
    order = [torch.randperm(len(data.train), generator=rng(0, i)).to(data.device) for i in range(n)]
    def step(k):
        at = k*b%(len(data.train)-b+1)
        rows = [o[at:at+b] for o in order]
        x,y = [cfg.augment(data.x('train', o), rng(0, k, i)) for i,o in enumerate(rows)],[data.y('train')[o] for o in rows]
        x,y = (x[0], y[0]) if n==1 else (torch.stack(x), torch.stack(y))
        def g(ps): return replayed(*ps, x, y) if form=='CUDA graph' else gradient(ps, x, y)
        grads = gsam_gradient(lambda ps: list(g(ps)), params, cfg.rho, cfg.alpha) if cfg.rule=='gsam' else list(g(params))
        expert_step(params, velocity, grads, cfg)
    for k in range(3): step(k)
    def go():
        for k in range(3, 3+steps): step(k)
    before = race.memory_now()
    took = race.seconds(go)/steps/n
    an_hour = 3600/(took*50*(50_000//256+1))
    return dict(rule=cfg.rule, together=n, form=form, bfloat16=cfg.amp, ms_a_step=1000*took, experts_an_hour=an_hour, gb=round((race.peak_memory()-before)/1024, 3), finite=bool(all(o.isfinite().all() for o in params)),
                share_of_limit={k: an_hour/v for k,v in LIMITS.items()} if cfg.rule=='sgd' else None)

def experts(job):
    "How fast experts are recorded: one at a time in several forms, and several at once"
    data,steps = cifar(job, zca=False),2 if job.tiny else 60
    base = changed(MTT_EXPERTS, **dict(arch='convnet_d2_w8', batch_size=32) if job.tiny else {})
    together,jobs = (1, 2) if job.tiny else (1, 4, 16, 8),{}
    for rule in ('sgd', 'gsam'):
        if rule=='gsam' and job.tiny: together = (2,)
        for n in together:
            for amp in (False, True):
                for form in ('eager', 'compiled', 'CUDA graph'):
                    if form=='compiled' and (n>1 or job.tiny): continue
                    cfg = changed(base, rule=rule, amp=amp, compile=form=='compiled')
                    jobs[f'{rule}, {n} at once, {form}{", bfloat16"*amp}'] = partial(expert_rate, data, cfg, n, form, steps)
    return job.units(compiled_last(jobs))

# ---- data and stores

def decoded(job, name):
    "A data set, decoded once for all steps"
    if job.tiny: return cluttered_digits(600, 200, size=16, object_fraction=.9)
    file,splits = job.runs/f'{name}.safetensors',('train', 'test')
    if not file.exists():
        d = parquet(job.data[name], stream=False, device='cpu')
        save_tensors(file, {f'{s}.{k}': getattr(d.split(s), k) for s in splits for k in ('images', 'y')}, dict(classes=d.classes))
    t,meta = load_tensors(file)
    return ImageData(*[Split(t[f'{s}.images'], t[f'{s}.y']) for s in splits], meta['classes'], name=name, device=default_device())

def cifar(job, zca=True):
    "CIFAR-10 in its space; the whitening is fitted once and kept"
    data = decoded(job, 'cifar10')
    file = job.runs/'zca.safetensors'
    if not zca: return data
    if not file.exists(): save_tensors(file, data.whiten().norm.state(), {})
    return ImageData(data.train, data.test, data.classes, input_space('zca', load_tensors(file)[0]), data.name, data.device)

def store(job, data, name, cfg):
    "Record experts of the kind `cfg` one after another as far as the time goes, two at least"
    path,n,took = job.runs/f'experts_{name}',0,0.
    while n<cfg.n and (n<2 or job.left()>1.2*took):
        t0 = time.time()
        experts,n,took = record_experts(data, path, changed(cfg, n=n+1), show=False),n+1,time.time()-t0
        at = sorted({0, 1, 2, 5, 10, experts.epochs[-1]} & set(experts.epochs))
        row = dict(experts=n, seconds_each=round(took, 1), epochs=at, accuracy=expert_accuracy(experts, data, 0, at), n_train=len(data.train))
        job.keep(**row)
        print(row, flush=True)
    return True

def for_matching(job, epochs, **more):
    "How the experts of a store are recorded: the last epoch gives the first soft labels"
    tiny = dict(arch='convnet_d2_w8', lr=.05, batch_size=64) if job.tiny else {}
    return changed(FTD_EXPERTS, n=2 if job.tiny else 10, epochs=epochs, **dict(amp=True) | more | tiny)

def cifar_experts(job): return store(job, cifar(job), 'cifar10', for_matching(job, 5 if job.tiny else 25, arch='convnet_d3'))
def nette_experts(job): return store(job, decoded(job, 'imagenette'), 'imagenette', for_matching(job, 5 if job.tiny else 22, arch='convnet_d5'))

# ---- 3 and 4: curves of accuracy over iterations

def settings(job, data, ipc, method):
    "Published settings; where EDF's file has neither CPD nor DAE, DATM's with both"
    if data=='cifar10': cfg = changed(preset(data, ipc, 'datm'), **dict(alpha=.25, beta=1., cam_interval=100) if method=='edf' else {})
    else: cfg = changed(preset(data, ipc, 'edf'), cam_layer=None, **VARIANTS['datm'] if method=='datm' else {}) # maps of an expert, which has no layer4
    tiny = dict(arch=None, zca=None, syn_steps=2, batch_syn=10, min_start_epoch=0, initial_max_start_epoch=None, max_start_epoch=2, expand_until=None, lr_img=10., loss_threshold=1e9, init='random', cam_interval=1)
    return changed(cfg, gradient='adjoint', save_every=2 if job.tiny else 25, **tiny if job.tiny else {})

def judged(syn, data, arch, method, ipc, it, students, recipe, table):
    "Row of the results: students of a set"
    e = evaluate(syn, data, arch, students, recipe, checks=1)
    return dict(table=table, method=method, ipc=ipc, arch=e.about['arch'], labels=e.about['labels'], iteration=it, accuracy=e.last, seeds=e.seeds,
                published=PUBLISHED.get(table, {}).get(method))

def curve(job, data, name, ipc, every, students=3, lrs=(.003, .01, .03)):
    "DATM and EDF by turns, each `every` iterations a student or more, as far as the time goes; random real images first"
    store,recipe,table = Experts(job.runs/f'experts_{name}'),DATM_RECIPE if name=='cifar10' else EDF_RECIPE,f'{name}_ipc{ipc}'
    if job.tiny: recipe,every,students = Recipe(epochs=4),2,1
    rows,stops = job.kept.get('rows', []),job.kept.get('iterations', dict(datm=0, edf=0))
    if not rows:
        real = random_real(data, ipc, 0, [store.model(i, device=data.device) for i in range(len(store))])
        real = tune_lr(real, data, store.arch, lrs, recipe)
        rows.append(judged(real, data, store.arch, 'random real', ipc, 0, students, recipe, table) | dict(lr=real.lr))
    last,slowest = 4 if job.tiny else 10_000,0.
    while min(stops.values())<last and job.left()>1.2*slowest:
        t0,method = time.time(),min(stops, key=stops.get)
        syn = distill(data, store, settings(job, name, ipc, method), job.runs/f'{name}_{ipc}_{method}', show=False, iterations=stops[method]+every)
        took = time.time()-t0
        rows.append(judged(syn, data, store.arch, method, ipc, stops[method]+every, students, recipe, table) | dict(seconds_an_iteration=took/every, lr=syn.lr, experts=len(store), graphs=syn.provenance['graphs']))
        stops[method] += every
        job.keep(rows=rows, iterations=stops)
        slowest = max(slowest, time.time()-t0)
        print({k: v for k,v in rows[-1].items() if k!='seeds'}, flush=True)
    return min(stops.values())>=last

def cifar_1(job): return curve(job, cifar(job), 'cifar10', 1, 100)
def cifar_10(job): return curve(job, cifar(job), 'cifar10', 10, 50)
def nette_1(job): return curve(job, decoded(job, 'imagenette'), 'imagenette', 1, 50, 2)
def nette_10(job): return curve(job, decoded(job, 'imagenette'), 'imagenette', 10, 25, 1, (.01,))

# ---- 5: the decoupled protocol

def resnets(job):
    "Rows of bench/resnet_cifar10.py, one seed of each after another, as far as the time goes"
    data,runs,plan = cifar(job, zca=False),job.runs/'resnet',resnet.Plan()
    if job.tiny: data,plan = data.take(6, 2),changed(resnet.TINY, teacher_epochs=1, epochs=2)
    teacher = resnet.teacher_of(data, runs, plan)
    job.keep(teacher=teacher.accuracy)
    todo = [(name, kind, seed) for part in ('decide', 'labels', 'sre2l') for seed in range(plan.seeds) for name,kind in resnet.PARTS[part]]
    for i,(name,kind,seed) in enumerate(todo):
        if job.left()<0 or job.tiny and i: return job.tiny
        resnet.run(name, kind, seed, data, teacher, plan, runs)
        job.keep(rows=[dict(r, table='resnet_cifar10') for r in resnet.collected(runs, plan)])
    return True
