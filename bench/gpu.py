"""A queue of measurements for half an hour of one GPU, most telling first, in steps that stop when their time is over and go on later

    bash bench/gpu.sh fetch                      # where there is a network: wheels into .gpu/wheels
    bash bench/gpu.sh pieces FOLDER ...          # data in pieces that can be carried, .gpu/data-1, .gpu/data-2, ...
    bash bench/gpu.sh install                    # on the GPU machine, which needs no network
    python bench/gpu.py --plan_only                # what would be done
    python bench/gpu.py --minutes 9 --runs FOLDER --cifar10 FOLDER --imagenette FOLDER --edf CHECKOUT
    python bench/gpu.py --tiny --runs FOLDER     # a rehearsal on whatever machine, two minutes on one core

Each step is a process of its own, so that one that dies takes nothing with it. It keeps its results in FOLDER/steps/STEP.json as they come, and checkpoints
beside them; `gpu.json` in FOLDER collects them. The same command goes on where the last one stopped. `python bench/report.py` shows bench/results/gpu.json:
copy FOLDER/gpu.json there. A step whose data are not given is left out.
"""
import subprocess,sys,time
from dataclasses import dataclass
from pathlib import Path
from fastcore.script import call_parse
from edf_nrr.basics import read_json, write_json

@dataclass(frozen=True)
class Step:
    "A step of the queue"
    name:str # Function in gpu_steps.py
    tells:str # What it tells
    minutes:float # What it is given at most in one go, and about what it takes
    least:float # It is not begun with less, minutes
    needs:tuple = () # Data sets by name, and steps that must have given something

QUEUE = [
    Step('smoke', 'Does everything run: every public method once, tiny, and the tests that need CUDA', 2, .5),
    Step('matching', 'Time and memory of a matching iteration of 80 steps, ten images a class and one, in every form: eager, CUDA graphs, compiled, bfloat16, without TF32, several segments at once', 2.5, .5),
    Step('release', 'An iteration of the EDF release beside ours', 1, .5, ('edf',)),
    Step('experts', 'Experts an hour in several forms, and several at once, beside the limit of the machine', 1.5, .5, ('cifar10',)),
    Step('cifar_experts', 'Ten experts of CIFAR-10 as DATM needs them, one after another', 2, .7, ('cifar10',)),
    Step('cifar_1', 'DATM and EDF, CIFAR-10, one image a class, published settings: accuracy over iterations', 4, .8, ('cifar10', 'cifar_experts')),
    Step('cifar_10', 'The same with ten images a class', 6, 1, ('cifar10', 'cifar_experts')),
    Step('nette_experts', 'Experts of ImageNette at 128 pixels, ConvNet-D5', 4, 1, ('imagenette',)),
    Step('nette_1', 'DATM and EDF, ImageNette at 128 pixels, one image a class: accuracy over iterations', 5, 1, ('imagenette', 'nette_experts')),
    Step('nette_10', 'The same with ten images a class', 8, 2, ('imagenette', 'nette_experts')),
    Step('resnets', 'The decoupled protocol with ResNet-18: random real, RDED, CIDD and NRR, by kind of label', 8, 2, ('cifar10',))]
NAMES = [o.name for o in QUEUE]

def step_file(runs, name): return runs/'steps'/f'{name}.json'
def kept(runs, name): return read_json(step_file(runs, name)) if step_file(runs, name).exists() else {}

def has(step, runs, given, tiny, coming=()):
    "Is there what a step needs: data or a checkout, and experts, unless their step is `coming`?"
    def there(o): return o in coming or 'experts' in kept(runs, o) if o in NAMES else o in given or tiny and o!='edf'
    return all(map(there, step.needs))

def open_steps(runs, only=None): return [o for o in QUEUE if not (only and o.name not in only) and not kept(runs, o.name).get('done')]

def collect(runs):
    "gpu.json: what all steps have given so far, in the order of the queue"
    steps = {o: kept(runs, o) for o in NAMES if kept(runs, o)}
    write_json(runs/'gpu.json', dict(command='python bench/gpu.py', steps=steps))

def plan(runs, given, minutes, tiny=False):
    "Steps that a go of so many minutes would take up, with what each is given"
    left,res = minutes,[]
    for o in open_steps(runs):
        if left<o.least or not has(o, runs, given, tiny, [s.name for s,_ in res]): continue
        res.append((o, min(left, o.minutes)))
        left -= res[-1][1]
    return res

def attempt(step, runs, seconds, args, patience=20):
    "One go at a step, in a process that is ended `patience` seconds after its time. Did it die, but give something first?"
    if kept(runs, step.name).get('died', 0)>1: return
    before = len(kept(runs, step.name).get('rows', []))
    cmd = [sys.executable, '-W', 'ignore', __file__, '--step', step.name, '--minutes', str(seconds/60), *args]
    with open(runs/f'{step.name}.log', 'a') as log:
        p = subprocess.Popen(cmd, stdout=log, stderr=subprocess.STDOUT)
        try: code = p.wait(seconds+patience)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            code = None
    now = kept(runs, step.name)
    again = code not in (0, None) and len(now.get('rows', []))>before
    if code not in (0, None) and not again: now |= dict(died=now.get('died', 0)+1, error=(runs/f'{step.name}.log').read_text()[-1500:])
    if code!=0: write_json(step_file(runs, step.name), now)
    print(f'{step.name}:', 'again' if again else 'done' if now.get('done') else f'died, exit status {code}' if code not in (0, None) else 'goes on next time', f"after {now.get('seconds', 0):.0f} s in all", flush=True)
    return again

def queue(runs, given, minutes, tiny, args, only):
    "Take up one step after another until the minutes are over"
    end = time.time()+60*minutes
    for o in open_steps(runs, only):
        again = True
        while again:
            left = (end-time.time())/60
            if left<o.least or not has(o, runs, given, tiny): break
            again = attempt(o, runs, 60*min(left, o.minutes), args)
            collect(runs)

def work(name, runs, minutes, tiny, given):
    "A step, in this process"
    import gpu_steps
    job = gpu_steps.Job(name, runs, time.time()+60*minutes, tiny, given, given.get('edf'))
    done = getattr(gpu_steps, name)(job)
    job.keep(done=bool(done))

@call_parse
def main(
    runs:str='runs/gpu', # Folder for results and checkpoints
    minutes:float=9, # The queue ends by then
    cifar10:str='', # Folder of CIFAR-10 as Parquet files
    imagenette:str='', # Folder of ImageNette at 128 pixels as Parquet files
    edf:str='', # Checkout of the EDF release
    only:str='', # Steps to do, joined by commas. Default: all
    plan_only:bool=False, # Only say what would be done?
    tiny:bool=False, # A rehearsal?
    step:str='' # For the queue itself: do this step in this process
):
    runs,given = Path(runs),{k: v for k,v in dict(cifar10=cifar10, imagenette=imagenette, edf=edf).items() if v}
    if step: return work(step, runs, minutes, tiny, given)
    if plan_only:
        for o,m in plan(runs, given, minutes, tiny): print(f'{o.name:14} {m:4.1f} minutes  {o.tells}')
        return
    (runs/'steps').mkdir(parents=True, exist_ok=True)
    args = ['--runs', str(runs), *[s for k,v in given.items() for s in (f'--{k}', v)], *['--tiny']*tiny]
    queue(runs, given, minutes, tiny, args, only.split(',') if only else None)
    collect(runs)
