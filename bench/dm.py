"""Random real images, herding, k-centre, and distribution matching without and with CPD and DAE: same students, hard labels

    python bench/dm.py PATH             # the comparison, on CIFAR-10 at 16x16 and on cluttered digits: a quarter of an hour on one core
    python bench/dm.py PATH --choose    # what its settings were chosen by: held-out training images of CIFAR-10
    python bench/dm.py PATH --dm REPO   # first the loss and image gradient of a checkout of the published code, beside ours

PATH is a folder with CIFAR-10 in the Hugging Face layout (train-*.parquet, test*.parquet). Every seed is a set of its own with one student
of its own, so intervals cover both; herding and k-centre choose the same images for every seed, so theirs cover students only. DM starts
from the random real images of its seed. Finished runs are kept in the folder RUNS: a command that was
stopped can be given again.
"""
import dataclasses,time
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
import torch
from fastcore.script import call_parse
from edf_nrr.basics import changed, write_results
from edf_nrr.datasets import cluttered_digits
from edf_nrr.files import parquet
from edf_nrr.models import ConvNet
from edf_nrr.augment import DSA
from edf_nrr.training import Recipe, evaluate, random_real
from edf_nrr.baselines import herding, k_center
from edf_nrr.dm import DMConfig, dm as match, dm_gradient
from keep import kept, kept_teacher

from reference import modules, statements

ARCH = 'convnet_d2_w32'
SETTINGS = DMConfig(ipc=10, iterations=120, lr_img=3., batch_real=64, arch=ARCH, cam_interval=20, save_every=50)
RECIPE = Recipe(epochs=300, lr=.01)
ALL = DSA('color_crop_cutout_flip_scale_rotate', siamese=True)
VIEWS = dict(cifar10=ALL, digits=dataclasses.replace(ALL, strategy='color_crop_cutout_scale_rotate')) # a mirrored digit is another, or none
DM = {'DM': {}, 'DM + CPD': dict(alpha=.25), 'DM + DAE': dict(beta=1.), 'DM + CPD + DAE': dict(alpha=.25, beta=1.)}
VARIANTS = dict(cifar10=['random real', 'herding', 'k-centre', *DM], digits=['random real', 'DM', 'DM + DAE']) # DAE is for scenes in which the object is small
TRIED = [dict(lr_img=l, iterations=200) for l in (1., 3., 10., 30., 100.)] + [dict(lr_img=10., iterations=50), dict(lr_img=10., iterations=50, batch_real=256)] # with 64 real images but for the last

@lru_cache
def load(name, path, held_out):
    data = parquet(path, size=16, n_train=10_000, n_test=2_000) if name=='cifar10' else cluttered_digits(10_000, 2_000, size=16, object_fraction=.6)
    return data.validation(.1) if held_out else data

@lru_cache
def teacher_of(name, path, runs):
    "The network that chooses images and shows where to look, trained once and kept"
    return kept_teacher(load(name, path, False), Path(runs)/f'teacher-{name}.safetensors', ARCH, epochs=10, lr=1e-2, augment=dataclasses.replace(VIEWS[name], siamese=False))

def make(name, path, runs, method, seed, cfg, held_out):
    data = load(name, path, held_out)
    if method=='random real': return random_real(data, cfg.ipc, seed)
    if method in DM: return match(data, cfg, cam_model=teacher_of(name, path, runs) if cfg.beta else None, show=False)
    return dict(zip(('herding', 'k-centre'), (herding, k_center)))[method](data, teacher_of(name, path, runs), cfg.ipc)

def run(name, path, runs, method, seed, recipe=RECIPE, held_out=False, **changes):
    "Accuracy of a student of a method's set, from `runs` if it is there"
    cfg = changed(SETTINGS, seed=seed, augment=VIEWS[name], **DM.get(method, {}), **changes)
    recipe = changed(recipe, augment=dataclasses.replace(VIEWS[name], siamese=False))
    what = [name, method, seed, held_out, dataclasses.asdict(cfg), dataclasses.asdict(recipe)]
    def measured():
        load(name, path, held_out)
        if method!='random real' and (cfg.beta or method not in DM): teacher_of(name, path, runs) # not a part of the time
        t0 = time.time()
        syn = make(name, path, runs, method, seed, cfg, held_out)
        t1 = time.time()
        acc = evaluate(syn, load(name, path, held_out), ARCH, [seed], recipe, checks=1).mean
        print(name, method, seed, changes, f'{acc:.1%}', f'{time.time()-t0:.1f} s', flush=True)
        return dict(what=what, accuracy=acc, seconds=dict(set=t1-t0, student=time.time()-t1))
    return kept(runs, what, measured)

def row(method, name, results):
    return dict(method=method, data=name, ipc=SETTINGS.ipc, arch=ARCH, labels='hard', accuracy=[r['accuracy'] for r in results], seeds=[r['what'][2] for r in results],
                seconds_to_make=round(sum(r['seconds']['set'] for r in results)/len(results), 1), seconds=round(sum(sum(r['seconds'].values()) for r in results), 1))

def choices(path, runs, seeds):
    "The students' learning rate by random real images, and settings of DM"
    rows = [row(f'random real, lr {lr:g}', 'cifar10', [run('cifar10', path, runs, 'random real', s, changed(RECIPE, lr=lr), True) for s in range(seeds)]) for lr in (.003, .01, .03)]
    label = lambda o: 'DM' + ''.join(f', {k} {v:g}' for k,v in o.items())
    return rows + [row(label(o), 'cifar10', [run('cifar10', path, runs, 'DM', s, held_out=True, **o) for s in range(seeds)]) for o in TRIED]

def compared(path, runs, seeds, sets):
    found = {(n, m, s): run(n, path, runs, m, s) for n in sets for s in range(seeds) for m in VARIANTS[n]}
    return [row(m, n, [found[n,m,s] for s in range(seeds)]) for n in sets for m in VARIANTS[n]]

def beside(repo):
    "Largest relative difference of loss and image gradient to the statements of the published code, in float64, same network and images"
    nets, = modules(repo, 'networks')
    code = statements(Path(repo)/'main_DM.py', 'main', *[lambda s: s.startswith("if 'BN' not in args.model")]*2)
    found,(k,ipc,n,side) = {},(4, 3, 16, 16)
    for norm,name in (('instance', 'ConvNet'), ('batch', 'ConvNetBN')):
        g = torch.Generator().manual_seed(0)
        net = nets.ConvNet(3, k, 16, 2, 'relu', f'{norm}norm', 'avgpooling', (side, side)).double().requires_grad_(False)
        real,syn = (torch.randn(k*m, 3, side, side, dtype=torch.float64, generator=g).requires_grad_(m==ipc) for m in (n, ipc))
        args = SimpleNamespace(model=name, device='cpu', ipc=ipc, batch_real=n, dsa=False)
        scope = dict(torch=torch, args=args, num_classes=k, image_syn=syn, channel=3, im_size=(side, side), embed=net.embed, get_images=lambda c,m: real.detach()[c*n:(c+1)*n])
        exec(code, scope)
        want, = torch.autograd.grad(scope['loss'], syn)
        ours = ConvNet(k, side, width=16, depth=2, norm=norm).double().requires_grad_(False)
        ours.load_state_dict(net.state_dict())
        loss,got = dm_gradient(ours, real.detach(), [n]*k, syn, [ipc]*k)
        found[name] = dict(loss=abs(loss.item()/scope['loss'].item()-1), gradient=((got-want).norm()/want.norm()).item())
    return found

@call_parse
def main(
    path:str, # Folder with the data
    choose:bool=False, # Only what the settings were chosen by?
    seeds:int=5, # Sets and students a method
    sets:str='cifar10,digits', # Data sets
    dm:str='', # Checkout of the published code (DatasetCondensation), to compare loss and gradient with
    runs:str='runs/dm', # Folder for teachers, sets and finished runs
    out:str='' # Results file; default: bench/results/dm.json, with --choose bench/results/dm_choice.json
):
    torch.set_num_threads(1)
    more = dict(beside_published=beside(dm)) if dm else {}
    if more: print(more)
    rows = choices(path, runs, seeds) if choose else compared(path, runs, seeds, sets.split(','))
    if not choose: more['teacher'] = {n: teacher_of(n, path, runs).accuracy for n in sets.split(',')}
    command = ' '.join(['python bench/dm.py PATH', *['--choose']*choose, *[f'--seeds {seeds}']*(seeds!=5), *[f'--sets {sets}']*(sets!=','.join(VARIANTS)), *['--dm REPO']*bool(dm)])
    write_results(out or f"bench/results/dm{'_choice' if choose else ''}.json", rows, sum(r['seconds'] for r in rows), command, settings=dataclasses.asdict(SETTINGS), recipe=dataclasses.asdict(RECIPE), **more)
