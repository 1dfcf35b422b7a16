"""Labels of views: making them, and reading them back while a student trains

    python bench/relabel.py PATH --sre2l PATH

PATH holds CIFAR-10 as Parquet files, `--sre2l` is a checkout of the published SRe2L code; without it our own forms are timed alone. Making: `relabel` of every kind
beside the teacher's bare forward passes over the same views, which is the limit, and beside the published relabelling: its loader of image files, its mixing and
its teacher. Learning: an epoch of the published loop, which asks the teacher again for every student, and one of ours that reads a store. Everybody has the same
images, batch size, teacher (with random weights: time does not depend on them) and student. Contestants take turns in one process; the published code runs with
malloc's own settings. Reading: a store of a few hundred MB in a process of its own, with what memory it takes.
"""
import ast,json,statistics,subprocess,sys,tempfile,time
from argparse import Namespace
from functools import partial
from pathlib import Path
from unittest.mock import patch
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F, torchvision.transforms as transforms
import edf_nrr.codes # noqa: F401, adds the labels topk and components
from fastcore.script import call_parse
from PIL import Image
from edf_nrr.basics import kept_memory, versions, write_json
from edf_nrr.files import parquet
from edf_nrr.dbr import Labels, ask_teacher, distilled_id, label_views, labels_recipe, mixed_views
from edf_nrr.dbr import relabel, train_from_labels
from edf_nrr.models import create_model
from edf_nrr.training import random_real
from reference import modules, statements

KINDS = {'hard': {}, 'distances': {}, 'topk': dict(k=2), 'soft': {}, 'components': dict(k=4)}

def write_files(syn, folder):
    "The set as the published loader wants it: a folder a class"
    for i,(p,c) in enumerate(zip(syn.pixels().mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy(), syn.labels.tolist())):
        to = Path(folder)/f'{c:03d}'; to.mkdir(exist_ok=True)
        Image.fromarray(p).save(to/f'{i:05d}.png')

def published(sre2l, syn, folder, teacher, student, batch_size):
    "Their loader, and their loop's statements up to the teacher's answer and as a whole, as functions"
    here = next(Path(sre2l).expanduser().glob('**/relabel_cifar.py'))
    ipc, = modules(here.parent, 'imagenet_ipc')
    ns = dict(torch=torch, np=np, F=F, nn=nn, transforms=transforms, ImageFolderIPC=ipc.ImageFolderIPC, device=str(syn.images.device), model_teacher=teacher, net=student)
    ns['args'] = Namespace(syn_data_path=folder, ipc=int(syn.ipc), batch_size=batch_size, temperature=30)
    top = [o for o in ast.parse(here.read_text()).body if isinstance(o, ast.FunctionDef) and o.name=='mixup_data' or isinstance(o, ast.Assign) and ast.unparse(o.targets[0]) in ('transform_train', 'trainset', 'trainloader', 'loss_function_kl')]
    exec(compile(ast.Module(top, []), str(here), 'exec'), ns)
    ns['optimizer'] = torch.optim.AdamW(student.parameters(), lr=.001, weight_decay=.01)
    part = partial(statements, here, 'train')
    mix = part(lambda s: s.startswith('inputs, targets ='), lambda s: 'mixup_data' in s)
    ask = part(lambda s: s.startswith('soft_label = model_teacher'), lambda s: s.startswith('soft_label = F.softmax'))
    step = part(lambda s: s.startswith('inputs, targets ='), lambda s: s=='optimizer.step()')
    def run(epochs, *codes):
        with patch.object(torch.Tensor, 'cuda', lambda t: t.to(ns['device'])):
            for _ in range(epochs):
                for ns['inputs'],ns['targets'] in ns['trainloader']:
                    ns['outputs'] = torch.zeros(1, 10)
                    for c in codes: exec(c, ns)
    return partial(labels_only, run, mix, ask), lambda epochs: run(epochs, step)

@torch.no_grad()
def labels_only(run, mix, ask, epochs): run(epochs, mix, ask)

def makers(syn, teacher, epochs, batch_size):
    "Name -> function that labels `epochs` epochs"
    views = label_views(syn)
    xs = [mixed_views(syn, views, e, idx) for e in range(epochs) for idx in torch.arange(len(syn)).split(batch_size)]
    def bare():
        with kept_memory():
            for m in xs: ask_teacher(teacher, m, len(syn.classes))
    return {'the teacher alone': bare} | {f'relabel, {k}': partial(relabel, syn, teacher, k, epochs, views=views, batch_size=batch_size, show=False, **o) for k,o in KINDS.items()}

def learners(syn, teacher, arch, epochs, batch_size):
    "Name -> function that trains a student for `epochs` epochs from a store"
    recipe = labels_recipe(syn, epochs, batch_size=batch_size)
    stores = {k: relabel(syn, teacher, k, epochs, show=False, **KINDS[k]) for k in ('distances', 'components', 'soft')}
    return {f'our student, {k} from a store': partial(train_from_labels, syn, s, arch, recipe=recipe) for k,s in stores.items()}

def alternate(forms, views, rounds, base):
    "Rows with views a second and the ratio of rates to `base`"
    took = {k: [] for k in forms}
    for r in range(rounds+1):
        for k,f in forms.items():
            t = time.perf_counter(); f()
            if torch.cuda.is_available(): torch.cuda.synchronize()
            if r: took[k].append(time.perf_counter()-t)
    rows = []
    for k,ts in took.items():
        ratio = sorted(b/a for a,b in zip(ts, took[base]))
        rows.append(dict(form=k, views_a_second=round(views/statistics.median(ts), 1), rate_median=statistics.median(ratio), rate_min=ratio[0], rate_max=ratio[-1], to=base))
        print(json.dumps(rows[-1]), flush=True)
    return rows

def status_mb(key): return next(int(l.split()[1])/1024 for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(key))

def read_store(file, device, batch_size=100):
    "In a process of its own: memory after loading, after a look at one epoch and after all of them; views a second from the file and from a copy in memory"
    import copy
    def memory(): return dict(anonymous_mb=round(status_mb('RssAnon')), mapped_mb=round(status_mb('RssFile')))
    from edf_nrr.dbr import Mixed
    start,t = memory(),time.perf_counter()
    labels = Labels.load(file)
    opened,n = time.perf_counter()-t,len(labels)
    m = Mixed(torch.zeros(batch_size, 1, device=device), torch.zeros(batch_size, 2, dtype=torch.int64), torch.zeros(batch_size))
    def read(labels, epochs):
        t = time.perf_counter()
        for e in epochs:
            for idx in torch.randperm(n).split(batch_size): labels.target(e, idx, m)
        return len(epochs)*n/(time.perf_counter()-t)
    out = dict(file_mb=round(Path(file).stat().st_size/2**20), seconds_to_open=opened, before=start, opened=memory())
    read(labels, range(1)); out['one_epoch'] = memory()
    out['views_a_second_mapped'] = read(labels, range(labels.epochs)); out['all_epochs'] = memory()
    inside = copy.copy(labels); inside.d = labels.d.clone()
    out['views_a_second_in_memory'] = read(inside, range(labels.epochs)); out['copied'] = memory()
    print(json.dumps(out))

def store(syn, mb, n_classes=100):
    "Memory and speed of reading a store of soft labels of about `mb` MB"
    epochs = mb*2**20//(len(syn)*n_classes*2)
    with tempfile.TemporaryDirectory() as tmp:
        file = Path(tmp)/'labels.safetensors'
        Labels('soft', label_views(syn), torch.rand(epochs, len(syn), n_classes).half(), None, [str(i) for i in range(n_classes)], distilled_id(syn)).save(file)
        code = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import relabel as r; r.read_store({str(file)!r}, {str(syn.images.device)!r}, {min(100, len(syn))})'
        res = json.loads(subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    print(json.dumps(res), flush=True)
    return dict(epochs=epochs, images=len(syn), classes=n_classes, **res)

@call_parse
def main(
    path:str, # Folder of CIFAR-10 as Parquet files
    sre2l:str=None, # Checkout of the published SRe2L code
    ipc:int=10, # Images a class, of ten classes
    teacher:str='resnet18_cifar', # Network of the teacher; also that of the published script
    arch:str='convnet', # Network of the students
    epochs:int=2, # Epochs of views
    batch_size:int=50, # Views a step, and asked about at once
    rounds:int=5, # Turns of all contestants
    mb:int=400, # Size of the store that is read
    out:str='bench/results/relabel.json' # Results file
):
    t0,data = time.time(),parquet(path, n_train=max(1000, 10*ipc), n_test=100, stream=False)
    syn,net = random_real(data, ipc),create_model(teacher, 10, data.size, data.channels, seed=0).to(data.device).eval()
    student = create_model(arch, 10, data.size, data.channels, seed=1).to(data.device).train()
    forms,loops = makers(syn, net, epochs, batch_size),learners(syn, net, arch, epochs, batch_size)
    with tempfile.TemporaryDirectory() as folder:
        if sre2l:
            write_files(syn, folder)
            label,step = published(sre2l, syn, folder, net, student, batch_size)
            forms['published: loader, mixing and teacher'],loops = partial(label, epochs),{'published: student beside its teacher': partial(step, epochs), **loops}
        views = epochs*len(syn)
        made = alternate(forms, views, rounds, 'the teacher alone')
        learned = alternate(loops, views, rounds, next(iter(loops)))
    write_json(out, dict(command=f'python bench/relabel.py PATH{" --sre2l PATH" if sre2l else ""} --ipc {ipc} --teacher {teacher} --arch {arch} --epochs {epochs} --batch_size {batch_size} --rounds {rounds} --mb {mb}',
                         seconds=round(time.time()-t0, 1), versions=versions(), ipc=ipc, teacher=teacher, arch=arch, epochs=epochs, batch_size=batch_size, rounds=rounds, size=data.size,
                         made=made, learned=learned, store=store(syn, mb)))
