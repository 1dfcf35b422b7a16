"""Random real images, MTT and DATM on CIFAR-10 by their published settings, and EDF by DATM's: one image a class, 32x32, ZCA, ConvNet-D3 of width 128

    python bench/cifar10_published.py PATH --runs FOLDER                  # everything, about 18 hours on one quiet core
    python bench/cifar10_published.py PATH --runs FOLDER --only mtt       # one part: experts, mtt, datm, edf, students, speed or precision
    python bench/cifar10_published.py PATH --runs FOLDER --only report --export_state     # results file and copies of what there is
    python bench/cifar10_published.py PATH --runs FOLDER --tiny           # a rehearsal, a minute

PATH is a folder in the Hugging Face layout (train-*.parquet, test*.parquet). All work is kept in FOLDER and goes on there after a kill:
experts lose an epoch (3 minutes), matching 10 iterations (2 minutes), students one student (2 minutes). Parts may run in processes of their own,
but experts must not be recorded by two processes at once: mtt records the plain experts, datm and edf the GSAM experts, if they are missing.
`--export_state` copies what is small to `bench/state`: the state of each matching, the sets that lack students, the students' accuracies.
A machine without FOLDER starts from these copies. Experts are not among them: they are recorded again from their seed.

Published: MTT N=50, M=2, starts 0 and 1, lr_img 100, lr_lr 1e-7, lr .01, random real images, hard labels, plain SGD experts; DATM is
`preset('cifar10', 1, 'datm')` with GSAM experts; EDF is DATM with alpha .25, beta 1 and new maps every 100 iterations, since the EDF
release switches both off for one image a class. Here there are 10 experts, not 100 or 200, and they are trained only as far as they are
matched: 3 epochs for MTT; 7 for DATM and EDF, whose last is the one that gives the first soft labels. The learning rate is constant, so these
are the first epochs of longer ones. Their passes are compiled and in bfloat16: .45 s a gradient of 256 images on one core in place of .99 s
(`--only speed`); parameters and steps stay float32. `--only precision` measures whether they are as good. Matching and students are float32.
Random real images are five sets with a student each, hard labels as published and the GSAM experts' soft labels; their students' learning
rate is chosen on held-out training images. Five students a set learn by the published recipe, 1,000 epochs.
"""
import dataclasses,time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
import torch
from fastcore.script import call_parse
from edf_nrr.basics import atomic_write, changed, digest, kept_memory, load_tensors, mean_ci
from edf_nrr.basics import read_json, rng, save_tensors, write_json, write_results
from edf_nrr.core import Distilled, input_space
from edf_nrr.data import ImageData
from edf_nrr.files import parquet
from edf_nrr.models import create_model, flatten_params
from edf_nrr.training import DATM_RECIPE, Recipe, evaluate, random_real
from edf_nrr.trajectory import Experts, FTD_EXPERTS, MTT_EXPERTS, expert_accuracy, record_experts
from edf_nrr.matching import CompiledStep, adjoint_gradient, draw_batches, forward_fn
from edf_nrr.matching import unrolled_gradient
from edf_nrr.edf import EDFConfig, VARIANTS, distill, initial_set
from edf_nrr.presets import preset

STATE = Path(__file__).parent/'state'/'cifar10_published'
PUBLISHED = {'random real': .154, 'mtt': .462, 'datm': .469}
ARCH = 'convnet_d3'
MTT = EDFConfig(ipc=1, iterations=5000, syn_steps=50, expert_epochs=2, lr_img=100., lr_lr=1e-7, lr_init=.01, batch_syn=10, loss_threshold=1e9,
                min_start_epoch=0, initial_max_start_epoch=None, max_start_epoch=2, init='random', arch=ARCH, zca=True, **VARIANTS['mtt'])
DATM = preset('cifar10', 1, 'datm')
EDF = changed(DATM, alpha=.25, beta=1., cam_interval=100)

@dataclasses.dataclass(frozen=True)
class Plan:
    "How large everything is"
    experts:dict # Name of a store to how it is recorded
    methods:dict # Name of a method to its settings
    recipe:Recipe # Of the students
    every:int # Iterations between stored sets
    iterations:int # Of each method
    students:int # A set
    lrs:tuple # Students' learning rates for random real images
    data:dict # To `parquet`
    store = {'mtt': 'sgd', 'datm': 'gsam', 'edf': 'gsam'}

def full_plan(iterations, students):
    "The published size"
    fast = dict(n=10, arch=ARCH, amp=True, compile=True)
    experts = dict(sgd=changed(MTT_EXPERTS, epochs=3, **fast), gsam=changed(FTD_EXPERTS, epochs=7, keep=5, **fast))
    methods = {k: changed(c, gradient='unrolled', save_every=10) for k,c in dict(mtt=MTT, datm=DATM, edf=EDF).items()}
    return Plan(experts, methods, DATM_RECIPE, 100, iterations, students, (.001, .003, .01, .03, .1), {})

def tiny_plan():
    "A rehearsal"
    arch = 'convnet_d2_w16'
    small = dict(n=2, arch=arch, lr=.05, momentum=.9, batch_size=50)
    experts = dict(sgd=changed(MTT_EXPERTS, epochs=3, **small), gsam=changed(FTD_EXPERTS, epochs=7, keep=5, **small))
    methods = {k: changed(c, gradient='unrolled', save_every=2, syn_steps=5, lr_img=10., loss_threshold=1e9, arch=arch)
               for k,c in dict(mtt=MTT, datm=DATM, edf=changed(EDF, cam_interval=2)).items()}
    return Plan(experts, methods, Recipe(epochs=10), 4, 8, 2, (.01, .1), dict(size=16, n_train=1000, n_test=500))

# ---- data and experts

def load(path, plan, runs):
    "CIFAR-10 in ZCA space; the whitening is fitted once and kept, so that experts and sets agree to the bit whatever the number of threads"
    data,file = parquet(path, **plan.data),runs/'zca.safetensors'
    if not file.exists(): save_tensors(file, data.whiten().norm.state(), {})
    return ImageData(data.train, data.test, data.classes, input_space('zca', load_tensors(file)[0]), 'cifar10', data.device)

def experts_of(name, data, plan, runs):
    "The store of experts `name`, recorded if it is not"
    t0,path = time.time(),runs/f'experts_{name}'
    experts = record_experts(data, path, plan.experts[name], show=False)
    if not (path/'accuracy.json').exists():
        acc = [expert_accuracy(experts, data, i) for i in range(2)]
        write_json(path/'accuracy.json', dict(epochs=experts.epochs, accuracy=acc))
        print(f'{name} experts ready after {time.time()-t0:.0f} s in this process', *(f'{a:.1%}' for a in acc[0]), flush=True)
    return experts

# ---- matching

def set_file(runs, method, it): return runs/method/'sets'/f'set_{it:05d}.safetensors'

def keep_set(syn, file, **meta):
    "Store a set without its input space, which is the same for all"
    t = dict(images=syn.images, labels=syn.labels) | ({} if syn.logits is None else dict(logits=syn.logits))
    save_tensors(file, t, dict(meta, lr=syn.lr))

def kept_set(file, data):
    "The set of a file of `keep_set`, and what else was kept of it"
    t,m = load_tensors(file, data.device)
    return Distilled(t['images'], t['labels'], data.classes, data.norm, t.get('logits'), m['lr']),m

def where_it_is(run):
    "Iteration of the checkpoint in a run's folder"
    return load_tensors(run/'state.safetensors')[1]['it'] if (run/'state.safetensors').exists() else 0

def match(method, data, plan, runs):
    "Run a method and store its set every so many iterations"
    experts,cfg,run = experts_of(plan.store[method], data, plan, runs),plan.methods[method],runs/method
    if not set_file(runs, method, 0).exists():
        first = initial_set(data, experts, cfg.ipc, cfg.init, cfg.labels=='soft', cfg.seed)
        first.lr = cfg.lr_init
        keep_set(first, set_file(runs, method, 0), seconds=0, iterations=0)
    for stop in range(plan.every, plan.iterations+1, plan.every):
        start,t0 = where_it_is(run),time.time()
        if start>stop or set_file(runs, method, stop).exists(): continue # the sets before a copied checkpoint may have been taught elsewhere
        syn = distill(data, experts, cfg, run, show=False, iterations=stop)
        took = time.time()-t0
        keep_set(syn, set_file(runs, method, stop), seconds=took, iterations=stop-start)
        print(f'{method} {stop}: {took/max(1, stop-start):.2f} s an iteration, loss {syn.history["loss"][-plan.every:].mean():.3f}, '
              f'skipped {int(syn.history["skipped"].sum())}, largest value {syn.images.abs().max():.1f}, lr {syn.lr:.5f}', flush=True)

# ---- students

def taught(name, it, seed, syn, data, plan, runs, recipe=None, judge='test'):
    "Accuracy of one student of a set, from its file if it has been taught"
    recipe = recipe or plan.recipe
    file = runs/'students'/f'{name.replace(" ", "_")}_{it:05d}_{judge}_{recipe.lr or "own"}_{seed}.json'
    of = digest(syn.images, *([] if syn.logits is None else [syn.logits]))
    if file.exists() and (row := read_json(file))['set']==of: return row
    t0 = time.time()
    acc = evaluate(syn, data, plan.experts['sgd'].arch, [seed], recipe, checks=1).last[0]
    row = dict(method=name, iteration=it, seed=seed, judge=judge, accuracy=acc, lr=recipe.lr or syn.lr, seconds=round(time.time()-t0, 1), set=of,
               labels='hard' if syn.logits is None else 'soft')
    write_json(file, row)
    print(f'{name} {it}, student {seed}: {acc:.1%} by {judge}, {row["seconds"]:.0f} s', flush=True)
    return row

def random_rows(data, plan, runs, soft):
    "Students of random real images, a set a student, by the learning rate that does best on held-out images"
    name = 'random real, soft labels' if soft else 'random real'
    models = None
    if soft:
        experts = Experts(runs/'experts_gsam')
        models = [experts.model(i, device=data.device) for i in range(len(experts))]
    def one(seed, lr, judge, name_of_judge):
        return taught(name, 0, seed, random_real(data, 1, seed, models), judge, plan, runs, changed(plan.recipe, lr=lr), name_of_judge)
    held_out = data.validation(.1)
    scores = {lr: mean_ci([one(s, lr, held_out, 'held out')['accuracy'] for s in (1000, 1001)])[0] for lr in plan.lrs}
    best = max(scores, key=scores.get)
    return [one(s, best, data, 'test') for s in range(plan.students)]

def recorded(runs, plan, name):
    "Are all experts of a store there?"
    return len(list((runs/f'experts_{name}').glob('expert_*.safetensors')))==plan.experts[name].n

def students(data, plan, runs):
    "Teach what has not been taught: first one student of each set, then the second"
    random_rows(data, plan, runs, False)
    for seed in range(plan.students):
        for m in plan.methods:
            for file in sorted((runs/m/'sets').glob('set_*.safetensors'), reverse=True):
                it = int(file.stem.removeprefix('set_'))
                if m!='edf' or it: taught(m, it, seed, kept_set(file, data)[0], data, plan, runs) # EDF starts where DATM does
    if recorded(runs, plan, 'gsam'): random_rows(data, plan, runs, True)

# ---- what decides the form of the passes

def seconds_of(f, calls=3):
    "Median time of a call, after a first one"
    f()
    times = []
    for _ in range(calls):
        t0 = time.perf_counter()
        f()
        times.append(time.perf_counter()-t0)
    return sorted(times)[len(times)//2]

def gradient_times(data, plan):
    "Seconds of a gradient of 256 real images for each form of an expert's passes"
    cfg,res = plan.experts['sgd'],{}
    x,y = data.x('train', torch.arange(cfg.batch_size)),data.y('train')[:cfg.batch_size]
    net = create_model(cfg.arch, data.n_classes, data.size, data.channels, seed=0)
    def passes(amp, f):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=amp): out = f(x).float()
        torch.autograd.grad(torch.nn.functional.cross_entropy(out, y), list(net.parameters()))
    for amp in (False, True):
        for comp in (False, True):
            f = torch.compile(net, dynamic=False) if comp else net
            res[('bfloat16' if amp else 'float32')+', compiled'*comp] = seconds_of(lambda: passes(amp, f))
    return res

def matching_times(data, plan, steps=5):
    "Seconds of an inner step for each form of the matching gradient"
    cfg = plan.methods['datm']
    net,g = create_model(plan.experts['gsam'].arch, data.n_classes, data.size, data.channels, seed=0),rng(0, 'speed')
    start,f,lr = flatten_params(net),forward_fn(net),torch.tensor(cfg.lr_init)
    target = start+.01*torch.randn(start.shape, generator=g)
    syn = random_real(data, 1)
    batches,views = draw_batches(10, 10, steps, g),[cfg.augment.draw(10, data.size, g) for _ in range(steps)]
    args = start,target,syn.images,syn.labels,lr,batches,views,cfg.augment
    res = dict(unrolled=seconds_of(lambda: unrolled_gradient(f, *args)))
    for name,form,kw in (('adjoint, all graphs', f, dict(graphs=steps)), ('adjoint, no graphs', f, {}), ('compiled', CompiledStep(net), {})):
        res[name] = seconds_of(lambda: adjoint_gradient(form, *args, **kw))
    return {k: v/steps for k,v in res.items()}

def speed(data, plan, runs):
    "Measure and keep the times of all forms"
    with kept_memory(): res = dict(threads=torch.get_num_threads(), gradient_of_an_expert=gradient_times(data, plan), inner_step=matching_times(data, plan))
    print(res, flush=True)
    write_json(runs/'speed.json', res)

def precision(data, plan, runs):
    "Two experts recorded in float32 beside those in bfloat16: accuracy by epoch, and how far apart they end, in units of the way they went"
    fast,cfg = experts_of('sgd', data, plan, runs),changed(plan.experts['sgd'], n=2, amp=False, compile=False)
    exact = record_experts(data, runs/'experts_float32', cfg, show=False)
    def distance(a, b): return ((a-b).norm()/(b-exact.params(0, 0)).norm()).item()
    ends = [[o.params(i) for o in (fast, exact)] for i in range(2)]
    res = dict(epochs=exact.epochs, bfloat16=[expert_accuracy(fast, data, i) for i in range(2)], float32=[expert_accuracy(exact, data, i) for i in range(2)],
               distance=[distance(*o) for o in ends], distance_of_two_experts=distance(ends[0][1], ends[1][1]))
    print(res, flush=True)
    write_json(runs/'precision.json', res)

# ---- results, and copies of what is small

def collected(runs):
    "Rows of the results file: one a method and iteration, with an accuracy a student"
    found = {}
    for file in sorted((runs/'students').glob('*_test_*.json')):
        r = read_json(file)
        found.setdefault((r['method'], r['iteration']), []).append(r)
    rows = []
    for (method,it),rs in sorted(found.items()):
        rs = sorted(rs, key=lambda r: r['seed'])
        rows.append(dict(method=method, ipc=1, arch=ARCH, labels=rs[0]['labels'], iteration=it, accuracy=[r['accuracy'] for r in rs],
                         seeds=[r['seed'] for r in rs], lr=rs[0]['lr'], published=PUBLISHED.get(method), student_seconds=[r['seconds'] for r in rs]))
    return rows

def matching_seconds(runs, plan):
    "Iterations done and seconds an iteration of each method"
    res = {}
    for m in plan.methods:
        meta = [load_tensors(f)[1] for f in (runs/m/'sets').glob('*.safetensors')]
        n = sum(o['iterations'] for o in meta)
        if n: res[m] = dict(iterations=where_it_is(runs/m), seconds_an_iteration=round(sum(o['seconds'] for o in meta)/n, 2))
    return res

def optional(file): return read_json(file) if file.exists() else None

def report(plan, runs, out):
    "Write the results file from what is there"
    rows = collected(runs)
    experts = {k: optional(runs/f'experts_{k}'/'accuracy.json') for k in plan.experts}
    matching = matching_seconds(runs, plan)
    seconds = sum(sum(r['student_seconds']) for r in rows)+sum(o['iterations']*o['seconds_an_iteration'] for o in matching.values())
    more = dict(experts=experts, matching=matching, speed=optional(runs/'speed.json'), precision=optional(runs/'precision.json'))
    settings = dict(experts={k: dataclasses.asdict(v) for k,v in plan.experts.items()}, methods={k: dataclasses.asdict(v) for k,v in plan.methods.items()},
                    recipe=dataclasses.asdict(plan.recipe))
    write_results(out, rows, seconds, 'python bench/cifar10_published.py PATH --runs FOLDER', **more, settings=settings)
    for r in rows: print(f"{r['method']:>26} {r['iteration']:5d}  {100*mean_ci(r['accuracy'])[0]:5.1f} %  {len(r['accuracy'])} students", flush=True)

def untaught(runs, plan, method):
    "Sets that lack a student"
    for f in (runs/method/'sets').glob('*.safetensors'):
        it = int(f.stem.removeprefix('set_'))
        if len(list((runs/'students').glob(f'{method}_{it:05d}_test_*.json')))<plan.students: yield f

def export(runs, plan, state):
    "Copy what is small to the folder `state`, as text: checkpoints, sets that lack students, and what was measured"
    for old in state.rglob('*.b64'): old.unlink()
    rows = {f.name: read_json(f) for f in sorted((runs/'students').glob('*.json'))}
    if rows: write_json(state/'students.json', rows)
    for m in plan.methods:
        if not (runs/m/'state.safetensors').exists(): continue
        for f in (runs/m/'state.safetensors', *untaught(runs, plan, m)):
            with atomic_write(state/f.relative_to(runs).with_suffix('.b64')) as tmp: tmp.write_bytes(urlsafe_b64encode(f.read_bytes())+b'\n')
        write_json(state/m/'config.json', read_json(runs/m/'config.json'))
    for f in (runs/'speed.json', runs/'precision.json'):
        if f.exists(): write_json(state/f.name, read_json(f))

def take_up(runs, state):
    "Start an empty folder of runs from the copies"
    if runs.exists() or not state.exists(): return
    for f in state.rglob('*.json'):
        if f.name!='students.json': write_json(runs/f.relative_to(state), read_json(f))
    for name,row in (optional(state/'students.json') or {}).items(): write_json(runs/'students'/name, row)
    for f in state.rglob('*.b64'):
        with atomic_write(runs/f.relative_to(state).with_suffix('.safetensors')) as tmp: tmp.write_bytes(urlsafe_b64decode(f.read_bytes()))

PARTS = ['speed', 'experts', 'mtt', 'datm', 'edf', 'precision', 'students']

def do(part, data, plan, runs):
    "One part of the work"
    if part=='report': return # is written in any case
    if part=='experts':
        for name in plan.experts: experts_of(name, data, plan, runs)
    elif part in plan.methods: match(part, data, plan, runs)
    else: dict(students=students, speed=speed, precision=precision)[part](data, plan, runs)

@call_parse
def main(
    path:str, # Folder with the data
    runs:str='runs/cifar10_published', # Folder for experts, runs and students
    only:str='', # Parts to do, joined by commas: speed, experts, mtt, datm, edf, precision, students, report; default: all
    iterations:int=1000, # Of each method
    seeds:int=5, # Students a set
    threads:int=1, # Of torch
    tiny:bool=False, # A rehearsal of a minute?
    export_state:bool=False, # Copy what is small to bench/state (or beside FOLDER with --tiny)?
    out:str='' # Results file; default: bench/results/cifar10_published.json, with --tiny results.json in FOLDER
):
    torch.set_num_threads(threads)
    runs,plan = Path(runs),tiny_plan() if tiny else full_plan(iterations, seeds)
    state = runs.with_name(runs.name+'_state') if tiny else STATE
    take_up(runs, state)
    parts = only.split(',') if only else PARTS
    data = None if parts==['report'] else load(path, plan, runs)
    for part in parts: do(part, data, plan, runs)
    report(plan, runs, out or (runs/'results.json' if tiny else 'bench/results/cifar10_published.json'))
    if export_state: export(runs, plan, state)
