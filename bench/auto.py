"""Does `auto` find the right set for folders that it has never seen? Three folders, half an hour each, and a long comparison of all sets that it made

    python bench/auto.py PATH                  # all three folders, about two hours on two cores
    python bench/auto.py PATH --only digits --minutes 10
    python bench/auto.py PATH --only long      # the long comparison of the sets that are there

PATH holds `imagenette128` and `lossless/cifar10` in the Hugging Face layout. The folders of images are written to RUNS/folders:

digits      scikit-learn's digits as PNG, 8 pixels a side, without test images, with a broken file, a picture that is there twice, and a text file
imagenette  another split of ImageNette at 64 pixels, as JPEG: 400 training and 100 validation images a class, drawn from training and test images
twelve      two classes of ImageNette and ten of CIFAR-10, with 30 to 3,000 images a class, as PNG, without test images

The long comparison trains ten students of every set that a search has made, with each kind of label, on the test images. The choice of the
search is right when no other set is better by a difference that ten students resolve.
"""
import dataclasses,shutil,time
from pathlib import Path
import torch
from fastcore.script import call_parse
from torchvision.transforms.functional import to_pil_image
from edf_nrr.basics import given, mean_ci, read_json, rng, write_results
from edf_nrr.datasets import digits
from edf_nrr.files import parquet
from edf_nrr.load import load_data
from edf_nrr.report import RANDOM
from edf_nrr.auto import Search, auto, kept_plan

# ---- folders of images

def write_class(folder, pixels, kind='png'):
    "Images of one class as files"
    folder.mkdir(parents=True, exist_ok=True)
    for i,p in enumerate(pixels): to_pil_image(p).save(folder/f'{i:05d}.{kind}', **dict(quality=95) if kind=='jpg' else {})

def write_digits(to, path):
    "The digits, and what a messy folder has besides"
    data = digits(device='cpu')
    x,y = torch.cat([data.pixels('train'), data.pixels('test')]),torch.cat([data.y('train'), data.y('test')])
    for c in range(10): write_class(to/f'digit {c}', x[y==c])
    first = to/'digit 0'/'00000.png'
    shutil.copy(first, to/'digit 0'/'copy.png')
    (to/'digit 3'/'broken.png').write_bytes(first.read_bytes()[:50])
    (to/'notes.txt').write_text('scikit-learn digits')

def write_imagenette(to, path):
    "Another split of ImageNette"
    data = parquet(Path(path)/'imagenette128', 64, device='cpu')
    x,y = torch.cat([data.pixels('train'), data.pixels('test')]),torch.cat([data.y('train'), data.y('test')])
    for c,name in enumerate(data.classes):
        rows = (y==c).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=rng(0, 'another split', c))][:500]
        write_class(to/'train'/name, x[rows[:400]], 'jpg')
        write_class(to/'val'/name, x[rows[400:]], 'jpg')

def write_twelve(to, path):
    "Twelve classes, each about 1.5 times as large as the one before"
    sizes = [round(30*100**(i/11)) for i in range(12)]
    small,large = parquet(Path(path)/'lossless'/'cifar10', n_train=30_000, n_test=10, device='cpu'),parquet(Path(path)/'imagenette128', 32, device='cpu')
    for i,n in enumerate(sizes):
        data,c = (large, i) if i<2 else (small, i-2)
        of_c = (data.y('train')==c).nonzero().flatten()[:n]
        write_class(to/data.classes[c], data.pixels('train', of_c))

FOLDERS = dict(digits=write_digits, imagenette=write_imagenette, twelve=write_twelve)
OPTIONS = dict(digits=dict(flip=False, skip_bad=True), imagenette={}, twelve={})

def folder_of(name, path, runs):
    "The folder of images, written once"
    to = runs/'folders'/name
    if not to.exists():
        part = to.with_suffix('.part')
        shutil.rmtree(part, ignore_errors=True)
        FOLDERS[name](part, path)
        part.rename(to)
    return to

# ---- searches, and the long comparison of their sets

def searched(name, path, runs, minutes, ipc):
    "`auto` on one folder"
    t0 = time.time()
    res = auto(folder_of(name, path, runs), ipc, minutes, runs/name, **OPTIONS[name])
    return dataclasses.asdict(res) | dict(name=name, minutes=minutes, took=round(time.time()-t0), path='')

def long_rows(name, path, runs, ipc, students=10):
    "Test accuracies of students of all sets that a search has judged, by set and kind of label"
    how = {k: v for k,v in OPTIONS[name].items() if k!='flip'}
    plan,res = kept_plan(runs/name),read_json(runs/name/'auto.json')
    data = load_data(folder_of(name, path, runs), size=plan.size, **how)
    search = Search(data, plan, runs/name, ipc, flip=OPTIONS[name].get('flip', True))
    search.cap_ipc()
    search.choose_rates()
    names = list(dict.fromkeys(r['method'].split(',')[0] for r in res['rows']))
    entries = {k: v for n in names if n!=RANDOM for k,v in search.entries(n).items()} | {RANDOM: search.random_entry()}
    c = search.compared(entries, ['hard', 'own'], range(students), 'long', search.tested_data(), protocol=search.protocol)
    rows = [dict(method=r['method'], labels=r['labels'], accuracy=r['accuracy'], seeds=r['seeds'], folder=name, ipc=search.ipc) for r in c.rows]
    return [r | dict(chosen=(r['method'], r['labels'])==(res['best']['method'], res['best']['labels'])) for r in rows]

def better_ones(rows):
    "Names of the rows that are better than the chosen one by a resolved difference"
    chosen = next(r for r in rows if r['chosen'])
    gains = {(r['method'], r['labels']): mean_ci([a-b for a,b in zip(r['accuracy'], chosen['accuracy'])]) for r in rows if r is not chosen}
    return [f'{m}, {l}: {100*g:+.1f} ± {100*h:.1f}' for (m,l),(g,h) in gains.items() if g-h>0]

@call_parse
def main(
    path:str, # Folder with imagenette128 and lossless/cifar10
    only:str=','.join([*FOLDERS, 'long']), # Folders, and 'long' for the long comparison, joined by commas
    minutes:float=30., # Of each search
    ipc:int=10, # Images per class
    runs:str='runs/auto_folders', # Where everything is kept
    out:str='bench/results/auto.json' # Results file
):
    runs,t0 = Path(runs),time.time()
    old = read_json(out) if Path(out).exists() else dict(rows=[], searches={})
    rows,searches = old['rows'],old['searches']
    for name in [o for o in only.split(',') if o!='long']: searches[name] = searched(name, path, runs, minutes, ipc)
    for name in [o for o in searches if 'long' in only.split(',')]:
        new = long_rows(name, path, runs, ipc)
        rows = [r for r in rows if r['folder']!=name]+new
        searches[name] |= dict(better_than_the_choice=better_ones(new))
    write_results(out, rows, time.time()-t0, 'python bench/auto.py PATH', **given(searches=searches))
