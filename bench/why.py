"""Why CPD, DAE and NRR show no gain, and which refinement does: the measurements behind the tutorial `why`

    python bench/why.py PATH                        # everything, the most telling jobs first
    python bench/why.py PATH --only refine          # one part, or several joined by commas: refine, where, cpd, dae, nrr, confidence
    python bench/why.py PATH --only refine/10,cpd,dae/16   # of some parts only the first jobs

PATH holds CIFAR-10 in the Hugging Face layout, and `--nette` names a folder with ImageNette, without which its rows are left out. Every job (a method, a seed) is kept in the folder RUNS, so a command that was stopped goes on, and
the results file is written anew after each job. Jobs that are not done have no row. Take another folder for other settings.

refine      18,000 images of CIFAR-10 at 16 pixels, ten a class, students trained from labels of their own set's views; judged on 2,000 held-out training images and on 4,000 test images
where       random real images and ce-refine on CIFAR-10 at 16 and 32 pixels, ImageNette at 32 and 64, and cluttered digits, by teacher, images a class and epochs of the student
cpd         image gradients of trajectory matching with and without CPD, on experts of the same images
dae         cluttered digits, one image a class: DAE, mirrored DAE (background enhanced), both by the true masks, and steps on some pixels only, all steps of equal length
nrr         cluttered digits: gradients of cross-entropy and BatchNorm loss over iterations, Adam and plain descent, and weights relative to both norms
confidence  cluttered digits: low, medium and high confidence by teacher and images a class
"""
import time
from itertools import islice
from pathlib import Path
import torch
from fastcore.script import call_parse
from edf_nrr.basics import read_json, write_results
import why_refine,why_where,why_cpd,why_dae,why_nrr

PARTS = dict(refine=why_refine.jobs, where=why_where.jobs, cpd=why_cpd.jobs, dae=why_dae.jobs, nrr=why_nrr.jobs, confidence=why_nrr.confidence)
SETTINGS = dict(refine=why_refine.SETTINGS, where=why_where.SETTINGS, cpd=why_cpd.SETTINGS, dae=why_dae.SETTINGS, nrr=why_nrr.SETTINGS, confidence=why_nrr.CONFIDENCE)

BY_SEED = 'accuracy','validation','right' # What a row holds as a list, one entry a seed

def merged(out, part, done, how):
    "The results file with the rows and measures of one part replaced"
    old = read_json(out) if Path(out).exists() else dict(rows=[], parts={})
    seconds = sum(o['seconds'] for o in done)
    parts = old['parts'] | {part: how | dict(seconds=round(seconds), measures=[o for o in done if 'accuracy' not in o])}
    rows = {}
    for o in (o for o in done if 'accuracy' in o):
        about = {k: v for k,v in o.items() if k not in ('seed', *BY_SEED, 'seconds', 'student_seconds')}
        row = rows.setdefault(str(about), dict(about, part=part, accuracy=[], validation=[], seeds=[]))
        row['seeds'].append(o['seed'])
        for k in BY_SEED:
            if k in o: row.setdefault(k, []).append(o[k])
    kept = [r for r in old['rows'] if r['part']!=part]
    write_results(out, kept+list(rows.values()), sum(p['seconds'] for p in parts.values()), 'python bench/why.py PATH', parts=parts)

@call_parse
def main(
    path:str, # Folder with CIFAR-10
    only:str=','.join(PARTS), # Parts, joined by commas, each with the number of its first jobs if not all are wanted
    seeds:int=5, # Sets a method of `refine`; the other parts have more
    runs:str='runs/why', # Folder for experts, teachers, sets and finished jobs
    nette:str=None, # Folder with ImageNette, for part `where`
    out:str='bench/results/why.json' # Results file
):
    torch.set_num_threads(1)
    t0 = time.time()
    for part,_,n in (o.partition('/') for o in only.split(',')):
        more = dict(nette=nette) if part=='where' else {}
        done,command = [],f'python bench/why.py PATH{" --nette NETTE" if more else ""} --only {part}'
        for name,job in islice(PARTS[part](path, Path(runs)/part, seeds, **more), int(n) if n else None):
            done.append(job())
            merged(out, part, done, dict(command=command, settings=SETTINGS[part]))
            print(f'{time.time()-t0:.0f} s', part, name, {k: v for k,v in done[-1].items() if isinstance(v, float)}, flush=True)
