"""Is less kept of complex scenes, and do CPD and DAE help there? Trajectory matching over cluttered digits and real sets, beside their complexity

    python bench/complexity.py PATH

PATH holds cifar10/ and imagenette128/ in the Hugging Face layout. Sets, all at 16x16: cluttered digits at three object fractions, CIFAR-10
(10,000 images) and ImageNette. Complexity is by Grad-CAM++ of a ConvNet trained on all images, the students' architecture; its accuracy, mean of
three, is what "kept" is relative to. Matching has the demo's settings at 200 iterations, one image a class; every seed is another distillation
(other initial images, segments, augmentation), paired over the methods, with two students each. Finished sets are kept in the folder RUNS: a command that was stopped goes on.
"""
import dataclasses,time
from pathlib import Path
import numpy as np
from fastcore.script import call_parse
from keep import kept
from edf_nrr.basics import changed, mean_ci, write_results
from edf_nrr.datasets import cluttered_digits
from edf_nrr.files import parquet
from edf_nrr.training import accuracy, train_teacher
from edf_nrr.compdd import complexity, similar_groups
from edf_nrr.trajectory import expert_accuracy, record_experts
from edf_nrr.edf import compare_matching
from edf_nrr.demo import DEMO, DEMO_EXPERTS, DEMO_RECIPE

VARIANTS,SIZE = ('datm', 'datm+cpd', 'datm+dae', 'edf'),16
REAL = {'CIFAR-10': ('cifar10', dict(n_train=10000, n_test=2000)), 'ImageNette': ('imagenette128', {})}

def nets_of(data): return [train_teacher(data, DEMO_EXPERTS.arch, 20, 1e-2, augment=DEMO_RECIPE.augment, seed=s, show=False) for s in range(3)]

def sets_of(path, fractions):
    "Name -> function that gives the data"
    res = {f'digits, object {f}': lambda f=f: cluttered_digits(4000, 1000, size=SIZE, object_fraction=float(f)) for f in fractions}
    return res | {k: lambda d=d,o=o: parquet(Path(path)/d, size=SIZE, **o) for k,(d,o) in REAL.items()}

def scored(data, nets):
    "What is known of a set before it is distilled; classes that a network sees alike in two groups"
    c = complexity(data, nets[0], show=False)
    return dict(classes=data.classes, n_train=len(data.train), complexity=c.mean, by_class=c.by_class().tolist(), flat=c.about['flat'], groups=similar_groups(data, nets[0], 2),
                full=[accuracy(n, data) for n in nets])

def distilled(data, seeds, students, iterations, runs):
    "Accuracies of random real and of each method, [seed][student]"
    experts = record_experts(data, runs/'experts', DEMO_EXPERTS)
    per = {m: [] for m in ('random real', *VARIANTS)}
    for s in range(seeds):
        _,evals,_ = compare_matching(data, experts, changed(DEMO, iterations=iterations, seed=s), DEMO_RECIPE, runs/str(s), range(s*students, (s+1)*students), VARIANTS, say=lambda t: None)
        for m,e in evals.items(): per[m].append(e.last)
    return dict(accuracy=per, expert=expert_accuracy(experts, data, 0, experts.epochs[-1:])[0])

def run_set(name, make, runs, **how):
    "All of one set, from `runs` if it is there"
    def measured():
        t0,data = time.time(),make()
        return scored(data, nets_of(data)) | distilled(data, runs=runs, **how) | dict(seconds=time.time()-t0)
    res = kept(runs, how, measured)
    print(f"{name}: complexity {res['complexity']:.1%}, full data {np.mean(res['full']):.1%}, " + ', '.join(f'{m} {np.mean(a):.1%}' for m,a in res['accuracy'].items()) + f", {res['seconds']:.0f} s", flush=True)
    return res

def rows_of(name, r, students):
    "A row a method: accuracy, kept share of full data, difference to DATM, paired by distillation seed"
    full,per = np.mean(r['full']),{m: np.mean(a, 1) for m,a in r['accuracy'].items()}
    return [dict(method=m, ipc=DEMO.ipc, arch=DEMO_EXPERTS.arch, labels='soft', accuracy=np.ravel(r['accuracy'][m]).tolist(), data=name, complexity=r['complexity'],
                 full=r['full'], expert_accuracy=r['expert'], distillation_seeds=len(p), students_each=students, per_seed=p.tolist(), kept=mean_ci(p/full),
                 minus_datm=mean_ci(p-per['datm']), minus_random=mean_ci(p-per['random real'])) for m,p in per.items()]

@call_parse
def main(
    path:str, # Folder that holds cifar10/ and imagenette128/
    fractions:str='.4,.6,.9', # Of the image that the digit's square fills
    seeds:int=5, # Distillations a method and set
    students:int=2, # A distillation
    iterations:int=200, # Of each distillation
    runs:str='runs/complexity', # Folder for experts and runs
    out:str='bench/results/complexity.json' # Results file
):
    rows,seconds,sets,how = [],0,{},dict(seeds=seeds, students=students, iterations=iterations)
    for name,make in sets_of(path, fractions.split(',')).items():
        r = run_set(name, make, Path(runs)/name, **how)
        sets[name] = {k: v for k,v in r.items() if k not in ('accuracy', 'expert', 'seconds')}
        rows,seconds = rows+rows_of(name, r, students),seconds+r['seconds']
    write_results(out, rows, seconds, f'python bench/complexity.py PATH --fractions {fractions} --seeds {seeds} --students {students} --iterations {iterations}',
                  sets=sets, config=dataclasses.asdict(changed(DEMO, iterations=iterations)))
