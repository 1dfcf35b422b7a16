"""NRR-DD beside random real images, RDED and SRe2L by the decoupled protocol: CIFAR-10, 32x32, ResNet-18, ten images a class

    python bench/resnet_cifar10.py PATH --runs FOLDER                  # everything, about 18 hours on one quiet core
    python bench/resnet_cifar10.py PATH --runs FOLDER --only teacher   # one part: teacher, decide, labels, sre2l, precision or speed
    python bench/resnet_cifar10.py PATH --runs FOLDER --tiny           # a rehearsal, a minute

PATH is a folder in the Hugging Face layout (train-*.parquet, test*.parquet). All work is kept in FOLDER and goes on there after a kill:
the teacher loses 50 steps (2 minutes), a refinement 20 iterations (2 minutes), a student 10 epochs (20 seconds), labels are asked again (6 minutes).
Several processes may share FOLDER, each takes what no other is at.

One ResNet-18 teaches everything: ten epochs of SGD with a one-cycle learning rate, crop, flip, and label smoothing. Students are the same network,
300 epochs by RDED's recipe (AdamW, .001, batches of 50, half a cosine), CutMix, and the teacher's labels of replayed views. Every seed is a set of
its own with one student of its own. `decide` has the rows that decide: random real images, RDED, the paper's start (CIDD, lowest confidence) and the opposite
one (highest) with NRR, all with full soft labels. `labels` has random real images and the paper's set by one-hot labels, DBR's two distances, and as many bytes
of principal components (compact). `sre2l` comes last. Nothing was tuned, so the test images judge.

Passes of teacher and students while they learn are in bfloat16 and channels_last, .86 s a step of 50 images on one core in place of 1.87 s (`--only speed`);
parameters, optimiser, losses, labels, refinement and accuracies are float32. `--only precision` teaches students in float32 beside them.
"""
import dataclasses,fcntl,math,time
from contextlib import contextmanager
from pathlib import Path
import torch, torch.nn.functional as F
from fastcore.script import call_parse
from edf_nrr.basics import changed, kept_memory, load_tensors, read_json, rng, save_tensors
from edf_nrr.basics import seed_of, write_json, write_results
from edf_nrr.core import Distilled
from edf_nrr.files import parquet
from edf_nrr.models import create_model
from edf_nrr.teachers import load_teacher, save_teacher
from edf_nrr.augment import DSA
from edf_nrr.training import accuracy, random_real
from edf_nrr.cidd import initialise
from edf_nrr.nrr import NRRConfig, refine
from edf_nrr.dbr import Labels, StudentLoss, distilled_id, label_views, labels_recipe, mixed_views
from edf_nrr.dbr import relabel, train_from_labels
from edf_nrr.codes import LABEL_PRESETS
from edf_nrr.baselines import SRE2L, rded, sre2l

ARCH = 'resnet18_cifar'
PUBLISHED = {'SRe2L': .293, 'RDED': .371, 'CIDD low + NRR': .722}
SETS = {'random real': {}, 'RDED': {}, 'CIDD low + NRR': dict(select='low'), 'CIDD high + NRR': dict(select='high'), 'SRe2L': {}}
KINDS = {'soft': (LABEL_PRESETS['full'], {}), 'one-hot': (None, {}), 'DBR': (LABEL_PRESETS['dbr'], dict(match='l1')), 'compact': (LABEL_PRESETS['compact'], {})}
PARTS = dict(decide=[(m, 'soft') for m in ('random real', 'CIDD low + NRR', 'RDED', 'CIDD high + NRR')],
             labels=[(m, k) for k in ('one-hot', 'DBR', 'compact') for m in ('random real', 'CIDD low + NRR')],
             sre2l=[('SRe2L', 'soft')])

@dataclasses.dataclass(frozen=True)
class Plan:
    "How large everything is"
    ipc:int = 10 # Images a class
    seeds:int = 3 # Sets a method, with a student each
    epochs:int = 300 # Of a student
    student_save:int = 10 # Epochs between checkpoints
    teacher_epochs:int = 10 # Passes over the training images
    teacher_lr:float = .1 # Largest
    teacher_batch:int = 128 # Images a step
    teacher_save:int = 50 # Steps between checkpoints
    nrr:int = 500 # Iterations of refinement
    sre2l:int = 1000 # Iterations of SRe2L
    pool:int = 300 # Images a class that RDED and CIDD look at
    require_correct:bool = True # Does CIDD take only crops that the teacher is right about?
    fast:bool = True # Passes in bfloat16 and channels_last?

TINY = Plan(ipc=1, seeds=1, epochs=4, student_save=2, teacher_epochs=2, teacher_lr=.03, teacher_batch=30, teacher_save=3, nrr=2, sre2l=2, pool=4, require_correct=False)

@contextmanager
def alone(file):
    "True if no other process is at work on `file`; a killed one lets go"
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, 'w') as f:
        try: fcntl.flock(f, fcntl.LOCK_EX|fcntl.LOCK_NB)
        except BlockingIOError: yield False
        else: yield True

# ---- networks and their checkpoints

def new_net(data_like, seed, fast):
    "A network with its first weights"
    net = create_model(ARCH, *data_like, seed=seed)
    return net.to(memory_format=torch.channels_last) if fast else net

def passed(net, x, fast):
    "Scores of a network, in float32"
    if not fast: return net(x)
    with torch.autocast(x.device.type, torch.bfloat16): return net(x.contiguous(memory_format=torch.channels_last)).float()

def keep_state(file, net, opt, **meta):
    "Checkpoint of a network and its optimiser"
    t = {f'net.{k}': v for k,v in net.state_dict().items()}
    for i,p in enumerate(net.parameters()): t |= {f'opt.{i}.{k}': torch.as_tensor(v) for k,v in opt.state[p].items() if v is not None}
    save_tensors(file, t, meta)

def load_state(file, net, opt):
    "Load a checkpoint into a network and its optimiser; its meta, or nothing if there is none"
    if not file.exists(): return {}
    t,meta = load_tensors(file)
    net.load_state_dict({k.removeprefix('net.'): v for k,v in t.items() if k.startswith('net.')})
    for i,p in enumerate(net.parameters()):
        for k in [k for k in t if k.startswith(f'opt.{i}.')]:
            v = t[k]
            opt.state[p][k.split('.', 2)[2]] = torch.empty_like(p).copy_(v) if v.shape==p.shape else v
    return meta

# ---- the teacher

def cycle(share):
    "Factor on the learning rate after a share of all steps: up in the first quarter, then by half a cosine to 0"
    return share/.25 if share<.25 else .5*(1+math.cos(math.pi*(share-.25)/.75))

def rough_accuracy(net, data, fast, n=2000):
    "Accuracy on the first test images, to watch"
    net.eval()
    x,y = data.x('test', torch.arange(min(n, len(data.test)))),data.y('test')[:n]
    with torch.no_grad(): hits = sum((passed(net, a, fast).argmax(1)==b).sum().item() for a,b in zip(x.split(500), y.split(500)))
    net.train()
    return hits/len(y)

def teacher_step(net, opt, data, idx, step, plan):
    "One step on the real images `idx`; its loss"
    x = DSA('crop_flip', ops='all')(data.x('train', idx), rng(0, 'teacher', 'view', step))
    loss = F.cross_entropy(passed(net, x, plan.fast), data.y('train')[idx], label_smoothing=.1)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()

def learn(data, runs, plan):
    "Train the teacher, or go on with it"
    net = new_net((data.n_classes, data.size, data.channels), seed_of(0, 'teacher', 'init'), plan.fast).train()
    opt = torch.optim.SGD(net.parameters(), lr=plan.teacher_lr, momentum=.9, nesterov=True, weight_decay=5e-4)
    file,n = runs/'teacher_state.safetensors',len(data.train)//plan.teacher_batch
    meta = load_state(file, net, opt)
    done,spent,total = meta.get('step', 0),meta.get('seconds', 0.),n*plan.teacher_epochs
    t0 = time.time()
    for step in range(done, total):
        epoch,i = divmod(step, n)
        order = torch.randperm(len(data.train), generator=rng(0, 'teacher', 'order', epoch))
        for g in opt.param_groups: g['lr'] = plan.teacher_lr*cycle((step+1)/total)
        loss = teacher_step(net, opt, data, order[i*plan.teacher_batch:(i+1)*plan.teacher_batch], step, plan)
        if (step+1)%plan.teacher_save==0 or step+1==total: keep_state(file, net, opt, step=step+1, seconds=spent+time.time()-t0)
        if i+1==n: print(f'teacher, epoch {epoch+1}/{plan.teacher_epochs}: loss {loss:.3f}, {rough_accuracy(net, data, plan.fast):.1%}, {spent+time.time()-t0:.0f} s', flush=True)
        elif (step+1)%100==0: print(f'teacher, step {step+1}/{total}: loss {loss:.3f}, {spent+time.time()-t0:.0f} s', flush=True)
    return net.to(memory_format=torch.contiguous_format)

@kept_memory()
def train_teacher(data, runs, plan):
    "The teacher, trained once and kept"
    with alone(runs/'locks'/'teacher') as mine:
        if not mine: raise SystemExit('another process trains the teacher: come again when it is done')
        net = learn(data, runs, plan)
        net.classes,net.space,net.about = list(data.classes),data.norm,dict(arch=ARCH, size=data.size, channels=data.channels)
        net.accuracy = accuracy(net.eval(), data)
        save_teacher(net, runs/'teacher.safetensors')
        (runs/'teacher_state.safetensors').unlink()
    print(f'teacher: {net.accuracy:.2%}', flush=True)

def teacher_of(data, runs, plan):
    "The teacher"
    if not (runs/'teacher.safetensors').exists(): train_teacher(data, runs, plan)
    return load_teacher(runs/'teacher.safetensors', data.device)

# ---- sets and their labels

def make(name, data, teacher, seed, plan, path):
    "The set of a method"
    if name=='random real': return random_real(data, plan.ipc, seed)
    if name=='RDED': return rded(data, teacher, plan.ipc, pool=plan.pool, seed=seed)
    if name=='SRe2L': return sre2l(data, teacher, plan.ipc, changed(SRE2L, seed=seed, iterations=plan.sre2l, save_every=20), path, show=False)
    start = initialise(data, teacher, plan.ipc, pool=plan.pool, require_correct=plan.require_correct, seed=seed, **SETS[name])
    return refine(start, teacher, NRRConfig(seed=seed, iterations=plan.nrr, save_every=20), path, show=False)

def folder(runs, name, seed): return runs/'sets'/f'{name.replace(" + ", "_").replace(" ", "_")}_{seed}'

def set_of(name, data, teacher, seed, plan, runs):
    "The set of a method, made once and kept"
    path,t0 = folder(runs, name, seed),time.time()
    if not (path/'set.safetensors').exists():
        syn = make(name, data, teacher, seed, plan, path/'refinement')
        syn.provenance['seconds'] = time.time()-t0
        syn.save(path/'set.safetensors')
        print(f'{name}, set {seed}: {time.time()-t0:.0f} s in this process', flush=True)
    return Distilled.load(path/'set.safetensors', data.device)

def labels_of(syn, teacher, kind, seed, plan, path):
    "Labels of a kind, asked once and kept"
    views,file = label_views(syn, seed),path/f'labels_{kind}.safetensors'
    if kind=='one-hot':
        nothing = torch.zeros(plan.epochs, len(syn), 0, dtype=torch.float16)
        return Labels('hard', views, nothing, None, list(map(str, syn.classes)), distilled_id(syn))
    if not file.exists(): relabel(syn, teacher, epochs=plan.epochs, path=file, views=views, show=False, **KINDS[kind][0])
    return Labels.load(file)

# ---- students

def epoch_of(net, opt, syn, labels, loss, seed, epoch, batch, fast):
    "One epoch of a student"
    for idx in torch.randperm(len(syn), generator=rng(seed, 'student', 'order', epoch)).split(batch):
        mixed = mixed_views(syn, labels.views, epoch, idx)
        opt.zero_grad()
        loss(passed(net, mixed.x, fast), labels.target(epoch, idx, mixed)).backward()
        opt.step()

@kept_memory()
def student(syn, labels, loss, seed, plan, file, stop=None):
    "A student as `train_from_labels` trains it, that can go on from `file`; and its seconds"
    recipe = labels_recipe(syn, plan.epochs)
    shape = len(syn.classes),syn.images.shape[-1],syn.images.shape[1]
    net = new_net(shape, seed_of(seed, 'student', 'init'), plan.fast).train()
    opt = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    meta,t0 = load_state(file, net, opt),time.time()
    for epoch in range(meta.get('epoch', 0), stop or recipe.epochs):
        for g in opt.param_groups: g['lr'] = recipe.lr_at(recipe.lr, epoch)
        epoch_of(net, opt, syn, labels, loss, seed, epoch, recipe.batch_size, plan.fast)
        if (epoch+1)%plan.student_save==0: keep_state(file, net, opt, epoch=epoch+1, seconds=meta.get('seconds', 0.)+time.time()-t0)
    return net.to(memory_format=torch.contiguous_format),meta.get('seconds', 0.)+time.time()-t0

def run(name, kind, seed, data, teacher, plan, runs, tag=''):
    "Accuracy of a student of a set, from its file if there is one; None if another process is at this set"
    path = folder(runs, name, seed)
    file = path/f'{kind}{tag}.json'
    if file.exists(): return read_json(file)
    with alone(runs/'locks'/path.name) as mine:
        if not mine: return None
        syn = set_of(name, data, teacher, seed, plan, runs)
        labels,state = labels_of(syn, teacher, kind, seed, plan, path),path/f'student_{kind}{tag}.safetensors'
        net,seconds = student(syn, labels, StudentLoss(**KINDS[kind][1]), seed, plan, state)
        row = dict(method=name, labels=kind, seed=seed, accuracy=accuracy(net.eval(), data), teacher=teacher.accuracy,
                   set_seconds=round(syn.provenance['seconds'], 1), student_seconds=round(seconds, 1), bytes_a_view=labels.nbytes/max(1, labels.epochs*len(labels)), fast=plan.fast)
        write_json(file, row)
        state.unlink(missing_ok=True)
    print(f'{name}, {kind} labels, seed {seed}{tag}: {row["accuracy"]:.1%}, set {row["set_seconds"]:.0f} s, student {seconds:.0f} s', flush=True)
    return row

def part(jobs, data, plan, runs):
    "Rows of a part, first one seed of each, then the next"
    teacher = teacher_of(data, runs, plan)
    busy = [(name, kind, seed) for seed in range(plan.seeds) for name,kind in jobs if run(name, kind, seed, data, teacher, plan, runs) is None]
    for o in busy: print('left to another process:', *o, flush=True)

# ---- what decides the form of the passes

def speed(data, plan, runs):
    "Seconds of a step of 50 images for each form of the passes"
    x,y,res = data.x('train', torch.arange(50)),data.y('train')[:50],{}
    for amp in (False, True):
        for last in (False, True):
            net = create_model(ARCH, data.n_classes, data.size, data.channels, seed=0).train()
            layout = torch.channels_last if last else torch.contiguous_format
            net,z,times = net.to(memory_format=layout),x.contiguous(memory_format=layout),[]
            for _ in range(5):
                t0 = time.perf_counter()
                with torch.autocast(x.device.type, torch.bfloat16, enabled=amp): out = net(z).float()
                F.cross_entropy(out, y).backward()
                times.append(time.perf_counter()-t0)
            res[('bfloat16' if amp else 'float32')+', channels_last'*last] = sorted(times[1:])[1]
    print(res, flush=True)
    write_json(runs/'speed.json', dict(threads=torch.get_num_threads(), step_of_50=res))

def precision(data, plan, runs):
    "Students of random real images in float32, with the sets, labels and seeds of those in bfloat16"
    teacher,exact = teacher_of(data, runs, plan),changed(plan, fast=False)
    for s in range(plan.seeds): run('random real', 'soft', s, data, teacher, exact, runs, '_float32')

def same_as_library(data, plan, runs):
    "A float32 student is that of `train_from_labels` to the bit, and one that was stopped is that of one go"
    teacher,syn = teacher_of(data, runs, plan),random_real(data, plan.ipc, 0)
    labels,loss = relabel(syn, teacher, epochs=plan.epochs, views=label_views(syn), show=False, kind='soft'),StudentLoss()
    for fast in (False, True):
        p = changed(plan, fast=fast)
        nets = [student(syn, labels, loss, 0, p, runs/'check'/'none')[0]]
        student(syn, labels, loss, 0, p, runs/'check'/'stopped', stop=plan.epochs//2)
        nets.append(student(syn, labels, loss, 0, p, runs/'check'/'stopped')[0])
        if not fast: nets.append(train_from_labels(syn, labels, ARCH, 0, labels_recipe(syn, plan.epochs), loss))
        for f in (runs/'check').glob('*'): f.unlink()
        print('bfloat16' if fast else 'float32', 'students are the same:', all(torch.equal(a, b) for n in nets[1:] for a,b in zip(nets[0].state_dict().values(), n.state_dict().values())), flush=True)

# ---- results

def collected(runs, plan):
    "Rows of the results file: one a method and kind of label, with an accuracy a set"
    jobs = [o for jobs in PARTS.values() for o in jobs]
    rows = []
    for name,kind in jobs:
        for tag in ('', '_float32'):
            rs = [read_json(f) for s in range(plan.seeds) if (f := folder(runs, name, s)/f'{kind}{tag}.json').exists()]
            if not rs: continue
            seconds = dict(set_seconds=[r['set_seconds'] for r in rs], student_seconds=[r['student_seconds'] for r in rs])
            rows.append(dict(method=name+', students in float32'*bool(tag), ipc=plan.ipc, arch=ARCH, labels=kind, accuracy=[r['accuracy'] for r in rs], seeds=[r['seed'] for r in rs],
                             teacher=rs[0]['teacher'], published=PUBLISHED.get(name) if kind in ('soft', 'DBR') else None, bytes_a_view=rs[0]['bytes_a_view'], **seconds))
    return rows

def report(plan, runs, out):
    "Write the results file from what is there"
    rows = collected(runs, plan)
    speeds = read_json(runs/'speed.json') if (runs/'speed.json').exists() else None
    seconds = sum(sum(r['set_seconds'])+sum(r['student_seconds']) for r in rows)
    write_results(out, rows, seconds, 'python bench/resnet_cifar10.py PATH --runs FOLDER', plan=dataclasses.asdict(plan), speed=speeds)
    for r in rows: print(f"{r['method']:>18} {r['labels']:>8}", *(f'{100*a:.1f}' for a in r['accuracy']), flush=True)

def do(o, data, plan, runs):
    "One part of the work"
    if o=='report': return # is written in any case
    if o in PARTS: part(PARTS[o], data, plan, runs)
    elif o=='teacher': teacher_of(data, runs, plan)
    else: dict(speed=speed, precision=precision, check=same_as_library)[o](data, plan, runs)

@call_parse
def main(
    path:str, # Folder with the data
    runs:str='runs/resnet_cifar10', # Folder for teacher, sets and students
    only:str='', # Parts to do, joined by commas: speed, teacher, decide, labels, sre2l, precision, check, report; default: all but the last two
    seeds:int=3, # Sets a method
    threads:int=1, # Of torch
    tiny:bool=False, # A rehearsal of a minute?
    out:str='' # Results file; default: bench/results/resnet_cifar10.json, with --tiny results.json in FOLDER
):
    torch.set_num_threads(threads)
    runs,plan = Path(runs),TINY if tiny else Plan(seeds=seeds)
    parts = only.split(',') if only else ['speed', 'teacher', *PARTS, 'precision']
    data = None if parts==['report'] else parquet(path, **(dict(size=16, n_train=300, n_test=200) if tiny else {}))
    for o in parts: do(o, data, plan, runs)
    report(plan, runs, out or (runs/'results.json' if tiny else 'bench/results/resnet_cifar10.json'))
