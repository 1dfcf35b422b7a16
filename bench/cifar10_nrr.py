"""NRR-DD beside random real images, RDED and SRe2L on CIFAR-10: same teacher, same labels, same students

    python bench/cifar10_nrr.py PATH                  # the comparison, 16x16 and a small ConvNet: a good hour on one core, a quarter of it the teacher
    python bench/cifar10_nrr.py PATH --study choices  # what each inferred choice does, judged on held-out training images: 3 seeds five hours on one core, two of them at 32 pixels
    python bench/cifar10_nrr.py PATH --study labels   # sets x kinds of label: 3 seeds, an hour
    python bench/cifar10_nrr.py PATH --full           # the paper's size: ResNet-18, 32x32, IPC 1, 10 and 50, for a GPU

PATH is a folder in the Hugging Face layout (train-*.parquet, test*.parquet) or, with --torchvision, where torchvision keeps CIFAR-10.
Every seed is a set of its own with one student of its own, so intervals cover both. Finished runs are kept in the folder RUNS:
a command that was stopped goes on, and what two studies share is run once. A tenth of the training images is held out from
teachers and sets (not with --full): defaults were chosen by these, and tables are of the test images. So was the students' learning rate,
by random real images: .005 instead of RDED's .001 for this small ConvNet (one look with one seed at .001, .005, .01 and .02).
"""
import dataclasses,json,sys,time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
import torch
from fastcore.script import call_parse
from keep import kept, kept_teacher, name_of
from edf_nrr.basics import changed, write_results
from edf_nrr.core import Distilled
from edf_nrr.data import ImageData
from edf_nrr.datasets import cifar10
from edf_nrr.files import parquet
from edf_nrr.augment import DSA
from edf_nrr.training import accuracy, random_real
from edf_nrr.cidd import CIDDConfig, initialise
from edf_nrr.nrr import NRRConfig, refine
from edf_nrr.dbr import StudentLoss, label_views, labels_recipe, relabel, train_from_labels
from edf_nrr.codes import LABEL_PRESETS
from edf_nrr.baselines import SRE2L, rded, sre2l

SMALL,BIG = 'convnet_bn_w64','resnet18_cifar'
BASE = dict(size=16, arch=SMALL, ipc=10, teacher_epochs=30, held_out=.1, start='cidd', cidd={}, nrr=None, labels=dict(kind='soft'), loss={}, epochs=300, lr=5e-3)

def spec(**changes):
    "What one run does: `BASE` with changes"
    if bad := changes.keys()-BASE.keys(): raise ValueError(f'unknown settings {bad}')
    return BASE | changes

# ---- studies: lists of (name, spec)

STARTS = {'random real': dict(start='random'), 'RDED': dict(start='rded'), 'CIDD lowest': dict(cidd=dict(select='low', require_correct=False)),
          'CIDD lowest correct': dict(cidd=dict(select='low')), 'CIDD medium': dict(cidd=dict(select='medium')), 'CIDD highest': dict(cidd=dict(select='high'))}
LOW,HIGH = 'CIDD lowest correct','CIDD highest'
REFINEMENT = dict(mask=[('eps', .3), ('eps', .7), ('eps', 1.), ('mask', 'binary'), ('cam_method', 'gradcam++')], optimiser=[('iterations', 100), ('iterations', 1500), ('lr', .01), ('lr', .2)],
                  loss=[('alpha_bn', .001), ('alpha_bn', 1.), ('augment', 'crop_flip')])
CANDIDATES = [('keep', 20), ('keep', 300), ('ratio', 'mean'), ('crops', 1), ('require_correct', False)]
MOSAIC = dict(select='high', require_correct=False, tiles=4) # of a quarter of the pixels too few crops are right to ask for it
CE = ' + NRR, no BatchNorm loss'
NRR = {'': None, ' + NRR': {}, CE: dict(alpha_bn=0.)}
MATRIX = NRR | {' + whole image': dict(mask='none'), ' + critical only': dict(mask='critical')}

def table(**more):
    "The comparison: every start as chosen, with NRR, and with NRR by cross-entropy alone; and SRe2L"
    rows = [(s+r, spec(**STARTS[s], nrr=NRR[r], **more)) for s in ('random real', 'RDED', LOW, HIGH) for r in ('', ' + NRR', CE) if s+r!='RDED'+CE]
    return [*rows, ('SRe2L', spec(start='noise', nrr={}, **more))]

def choices():
    "One choice changed at a time: of refinement from the paper's start, of candidates from the most confident crops"
    rows = [('start' if n is None else 'refinement', s+r, spec(**STARTS[s], nrr=n)) for s in STARTS for r,n in MATRIX.items()] + [('start', 'SRe2L', spec(start='noise', nrr={}))]
    for group,vs in REFINEMENT.items(): rows += [(group, f'{LOW} + NRR, {k} {v}', spec(**STARTS[LOW], nrr={k: v})) for k,v in vs]
    rows += [('candidates', f'{HIGH}, {k} {v}', spec(cidd=STARTS[HIGH]['cidd'] | {k: v})) for k,v in CANDIDATES] + [('candidates', 'CIDD highest, not only correct, tiles 4', spec(cidd=MOSAIC))]
    five = [(s, r) for s in ('random real', LOW, HIGH) for r in ('', ' + NRR') if s+r!='random real + NRR']
    for group,key,v in (('weak teacher', 'teacher_epochs', 1), ('short training', 'epochs', 75), ('one image a class', 'ipc', 1), ('8 pixels', 'size', 8), ('32 pixels', 'size', 32)):
        rows += [(group, f'{s}{r}, {key} {v}', spec(**STARTS[s], nrr=NRR[r], **{key: v})) for s,r in five]
    return rows

KINDS = {'one-hot': (dict(kind='hard'), {}), 'DBR': (dict(kind='distances'), dict(match='l1')), 'compact': (LABEL_PRESETS['compact'], {}), 'soft': (dict(kind='soft'), {})}

def by_label():
    "Each set under each kind of label"
    sets = {s+r: dict(STARTS[s], nrr=NRR[r]) for s,r in (('random real', ''), ('RDED', ''), (LOW, ''), (LOW, ' + NRR'), (HIGH, ''), (HIGH, CE))}
    return [(f'{m}: {k}', spec(**o, labels=l, loss=f)) for m,o in sets.items() for k,(l,f) in KINDS.items()]

# ---- one run

@lru_cache
def load(path, torchvision, size):
    return cifar10(path) if torchvision else parquet(path, size=size)

@lru_cache
def split(where, size, held_out):
    "What teachers and sets are made of, and the images that judge by name"
    data = load(*where, size)
    if not held_out: return data,dict(test=data)
    kept = data.validation(held_out)
    return kept,dict(validation=kept, test=ImageData(kept.train, data.test, data.classes, kept.norm, data.name, data.device))

@lru_cache
def teacher_of(where, runs, size, arch, epochs, held_out):
    "A teacher, trained once and kept"
    data,file = split(where, size, held_out)[0],Path(runs)/f"teacher-{arch}-{size}-{epochs}{'' if held_out else '-all'}.safetensors"
    return kept_teacher(data, file, arch, epochs=epochs, lr=1e-2, augment=DSA('crop_flip', ops='all'))

def settings(d): return {k: DSA(v, ops='all') if k=='augment' else tuple(v) if isinstance(v, list) else v for k,v in d.items()}

def make(data, teacher, o, seed):
    "The set of a spec"
    nrr = None if o['nrr'] is None else settings(o['nrr'])
    if o['start']=='noise': return sre2l(data, teacher, o['ipc'], changed(SRE2L, seed=seed, **nrr), show=False)
    start = dict(random=lambda: random_real(data, o['ipc'], seed), rded=lambda: rded(data, teacher, o['ipc'], seed=seed),
                 cidd=lambda: initialise(data, teacher, o['ipc'], seed=seed, **settings(o['cidd'])))[o['start']]()
    return start if nrr is None else refine(start, teacher, NRRConfig(seed=seed), show=False, **nrr)

def key(o, seed):
    "All that a run, or a set, does, defaults written out: with another default it is another run"
    nrr = None if o['nrr'] is None else dataclasses.asdict(changed(SRE2L if o['start']=='noise' else NRRConfig(), **settings(o['nrr'])))
    cidd = dataclasses.asdict(changed(CIDDConfig(), **settings(o['cidd']))) if o['start']=='cidd' else None
    full = o | dict(nrr=nrr, cidd=cidd) | (dict(loss=dataclasses.asdict(StudentLoss(**o['loss']))) if 'loss' in o else {})
    return [full, seed]

def set_of(data, teacher, o, seed, runs):
    "The set of a spec and the seconds it took, from `runs` if it is there"
    o = {k: v for k,v in o.items() if k not in ('labels', 'loss', 'epochs', 'lr')}
    file = Path(runs)/f'{name_of(key(o, seed))}.safetensors'
    if not file.exists():
        t0,syn = time.time(),make(data, teacher, o, seed)
        syn.provenance['seconds'] = time.time()-t0
        syn.save(file)
    syn = Distilled.load(file).to(data.device)
    return syn,syn.provenance['seconds']

def run(where, runs, o, seed):
    "Accuracies of a student of a spec's set, from `runs` if they are there"
    o = json.loads(json.dumps(o))
    return kept(runs, key(o, seed), lambda: measured(where, runs, o, seed))

def measured(where, runs, o, seed):
    "Accuracies of a student of a spec's set, and the seconds that it took"
    data,judges = split(where, o['size'], o['held_out'])
    teacher = teacher_of(where, runs, o['size'], o['arch'], o['teacher_epochs'], o['held_out'])
    syn,seconds = set_of(data, teacher, o, seed, runs)
    t0,labels = time.time(),relabel(syn, teacher, epochs=o['epochs'], views=label_views(syn, seed), show=False, **o['labels'])
    net = train_from_labels(syn, labels, o['arch'], seed, labels_recipe(syn, o['epochs'], lr=o['lr']), StudentLoss(**o['loss']))
    return dict(spec=o, seed=seed, accuracy={k: accuracy(net, v) for k,v in judges.items()}, teacher=teacher.accuracy, seconds=dict(set=seconds, student=time.time()-t0))

def _run(args): torch.set_num_threads(1); return run(*args)

def run_all(where, runs, specs, seeds, workers):
    "Results of all specs, a list a spec, one a seed"
    jobs = [(where, runs, o, s) for s in range(seeds) for o in specs]
    for o in {(o['size'], o['arch'], o['teacher_epochs'], o['held_out']) for o in specs}: print('teacher', *o, f'{teacher_of(where, runs, *o).accuracy:.1%}', flush=True)
    def tell(it):
        for i,r in enumerate(it): print(f'{i+1}/{len(jobs)}', r['accuracy'], json.dumps(r['spec']), flush=True); yield r
    if workers>1:
        with ProcessPoolExecutor(workers) as pool: res = list(tell(pool.map(_run, jobs)))
    else: res = list(tell(map(lambda a: run(*a), jobs)))
    return [res[i::len(specs)] for i in range(len(specs))]

def row(name, results, judge, **more):
    o = results[0]['spec']
    return dict(method=name, ipc=o['ipc'], arch=o['arch'], labels=o['labels']['kind'], accuracy=[r['accuracy'][judge] for r in results], seeds=[r['seed'] for r in results],
                teacher=results[0]['teacher'], seconds_to_make=round(sum(r['seconds']['set'] for r in results)/len(results), 1), **more)

@call_parse
def main(
    path:str, # Folder with the data
    study:str='table', # 'table', 'choices' or 'labels'
    full:bool=False, # The paper's size?
    torchvision:bool=False, # Is PATH torchvision's folder?
    size:int=None, # Image side; default: 16, with --full 32
    seeds:int=5, # Sets a method, with a student each
    groups:str='', # With --study choices: only these groups, joined by commas
    workers:int=1, # Processes of one thread each
    runs:str='runs/cifar10_nrr', # Folder for teachers and finished runs
    out:str='' # Results file; default: bench/results/cifar10_nrr[_STUDY].json
):
    t0,where = time.time(),(path, torchvision)
    big = dict(size=32, arch=BIG, teacher_epochs=100, held_out=0., lr=1e-3) if full else dict(size=size) if size else {}
    if study=='choices': named = [(n, o, dict(group=g)) for g,n,o in choices() if not groups or g in groups.split(',')]
    elif study=='labels': named = [(n, o, {}) for n,o in by_label()]
    elif study=='table': named = [(n, o, {}) for ipc in ((1, 10, 50) if full else (10,)) for n,o in table(ipc=ipc)]
    else: raise SystemExit(f"--study is table, choices or labels, not {study!r}")
    specs = [o | big for _,o,_ in named]
    results = run_all(where, runs, specs, seeds, workers)
    rows = [row(n, r, 'validation' if study=='choices' else 'test', **more) for (n,_,more),r in zip(named, results)]
    name = 'cifar10_nrr' + ('' if study=='table' else f'_{study}') + ('_full' if full else '')
    command = ' '.join(['python bench/cifar10_nrr.py PATH', *sys.argv[2:]])
    seconds = sum(sum(r['seconds'].values()) for rs in results for r in rs)
    print(f'{time.time()-t0:.0f} s now, {seconds:.0f} s for all runs one after another, teachers aside')
    write_results(out or f'bench/results/{name}.json', rows, seconds, command, defaults=dict(cidd=dataclasses.asdict(CIDDConfig()), nrr=dataclasses.asdict(NRRConfig())))
