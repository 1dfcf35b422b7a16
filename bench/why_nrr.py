"Parts `nrr` and `confidence` of bench/why.py: two gradients under two optimisers, and which confidence to choose, on cluttered digits"
import time
from functools import lru_cache,partial
from itertools import product
import torch, torch.nn.functional as F
from keep import kept, kept_teacher
from edf_nrr.basics import changed
from edf_nrr.cidd import initialise
from edf_nrr.datasets import cluttered_digits
from edf_nrr.dbr import label_views, labels_recipe, relabel, train_from_labels
from edf_nrr.nrr import NRRConfig, Refinement, bn_terms
from edf_nrr.training import accuracy, random_real

ARCH,ITERATIONS,EPOCHS = 'convnet_bn_d2_w16',150,60
ARMS = {'untouched': None, 'Adam, alpha .01': dict(), 'Adam, alpha 0': dict(alpha_bn=0.), 'Adam, balance .1': dict(balance=.1)}
ARMS |= {f'descent, eta {e:g}': dict(optimiser='sgd', lr=e) for e in (10., 100., 1000.)}
ARMS |= {'descent, eta 1000, balance .1': dict(optimiser='sgd', lr=1000., balance=.1)}

SETTINGS = dict(n_train=2000, object_fraction=.6, size=16, iterations=ITERATIONS, student_epochs=EPOCHS)

class Watched(Refinement):
    "NRR that writes down the norms of both gradients, with a weight of the second relative to both norms where `balance` is given"
    balance = None
    def gradient(self):
        if not hasattr(self, 'norms'): self.norms = []
        cfg,at = self.cfg,self.at[self.place[0]]
        x = self.images[at].detach().requires_grad_()
        with torch.enable_grad():
            with bn_terms(self.teacher, cfg.first_bn_multiplier) as terms: ce = F.cross_entropy(self.teacher(self.seen(x)), self.own[at])
            bn = torch.stack(terms).sum()
            a, = torch.autograd.grad(ce, x, retain_graph=True)
            b, = torch.autograd.grad(bn, x)
        na,nb = a.norm(),b.norm()
        w = cfg.alpha_bn if self.balance is None else self.balance*na/nb
        self.norms.append([na.item(), (w*nb).item() if w else nb.item()*.01, ce.item(), bn.item()])
        return a+w*b,torch.stack([ce.detach(), bn.detach()])

@lru_cache
def data(): return cluttered_digits(2000, 1000, size=16, object_fraction=.6)

@lru_cache
def teacher_of(runs, epochs=20): return kept_teacher(data(), runs/f'teacher-{epochs}.safetensors', ARCH, epochs=epochs, lr=1e-2, augment=None)

def start_of(name, teacher, ipc, seed):
    if name=='random': return random_real(data(), ipc, seed)
    return initialise(data(), teacher, ipc, seed=seed, select=name, require_correct=name!='low')

def student(syn, teacher, seed, epochs=EPOCHS, judge=None):
    "Accuracy of a student with full labels of the set's own views"
    labels = relabel(syn, teacher, 'soft', epochs, views=label_views(syn, seed, flip=0.), show=False)
    return accuracy(train_from_labels(syn, labels, ARCH, seed, labels_recipe(syn, epochs, lr=5e-3)), judge or data())

def run(runs, start, arm, seed):
    "Accuracy after one refinement, norms on the way, and how far pixels moved"
    def measured():
        t0,teacher = time.time(),teacher_of(runs)
        first,how,more = start_of(start, teacher, 10, seed),ARMS[arm],{}
        syn = first
        if how is not None:
            job = Watched(first, teacher, changed(NRRConfig(seed=seed, iterations=ITERATIONS), **{k: v for k,v in how.items() if k!='balance'}))
            job.balance = how.get('balance')
            job.finish(show=False)
            syn = job.result()
            more = dict(norms=job.norms[::10], moved=(syn.pixels()-first.pixels()).square().mean().sqrt().item())
        return dict(method=arm, start=start, ipc=10, arch=ARCH, labels='soft', seed=seed, teacher=teacher.accuracy, accuracy=student(syn, teacher, seed), seconds=time.time()-t0) | more
    return kept(runs, ['nrr', start, arm, ARMS[arm], SETTINGS, seed], measured)

def result(*args): return {k: v for k,v in run(*args).items() if k not in ('norms', 'moved')}

def curves(runs, start, arm):
    "Norms and movement of the first seed"
    r = run(runs, start, arm, 0)
    return dict(method=arm, start=start, seed=0, seconds=0., **{k: r[k] for k in ('norms', 'moved') if k in r})

def jobs(path, runs, seeds):
    both = 'untouched', 'Adam, alpha .01', 'descent, eta 1000, balance .1'
    first = [*product(('low', 'random'), both), ('low', 'Adam, alpha 0'), ('low', 'descent, eta 1000')]
    rest = [o for o in product(('low', 'random'), ARMS) if o not in first]
    for these,cases in ((range(3), first), (range(3), rest), (range(3, seeds), first+rest)):
        for s in these:
            for start,a in cases:
                yield f'{start}, {a} {s}',partial(result, runs, start, a, s)
                if s==0: yield f'{start}, {a}, curves',partial(curves, runs, start, a)

CHOICES = {'random': None, 'low': dict(select='low', require_correct=False), 'low, right': dict(select='low'), 'medium': dict(select='medium'), 'high': dict(select='high')}
STUDENT_EPOCHS = {1: 400, 10: 100, 50: 40} # By images a class
CONFIDENCE = dict(n_train=4000, object_fraction=.6, size=16, student_epochs=STUDENT_EPOCHS)

@lru_cache
def scenes(): return cluttered_digits(4000, 1000, size=16, object_fraction=.6)

@lru_cache
def judge_of(runs, epochs): return kept_teacher(scenes(), runs/f'scenes-{epochs}.safetensors', ARCH, epochs=epochs, lr=1e-2, augment=None)

def chosen(runs, choice, epochs, ipc, seed):
    "Accuracy of a student of the crops that CIDD chooses, and how many of them the teacher calls right"
    def measured():
        t0,teacher,how = time.time(),judge_of(runs, epochs),CHOICES[choice]
        syn = random_real(scenes(), ipc, seed) if how is None else initialise(scenes(), teacher, ipc, seed=seed, **how)
        with torch.no_grad(): right = (teacher(syn.images).argmax(1)==syn.labels).float().mean().item()
        acc = student(syn, teacher, seed, STUDENT_EPOCHS[ipc], scenes())
        return dict(method=choice, ipc=ipc, arch=ARCH, labels='soft', seed=seed, teacher_epochs=epochs, teacher=teacher.accuracy, right=right, accuracy=acc, seconds=time.time()-t0)
    return kept(runs, ['confidence', choice, CHOICES[choice], epochs, ipc, CONFIDENCE, seed], measured)

def confidence(path, runs, seeds):
    "All jobs, first those that could show low confidence to win: a stronger teacher and many images"
    def each(these, teachers, ipcs, choices):
        for s,epochs,ipc,choice in product(these, teachers, ipcs, choices): yield f'{choice}, {epochs} epochs, {ipc} {s}',partial(chosen, runs, choice, epochs, ipc, s)
    extremes = 'random', 'low', 'low, right', 'high'
    yield from each(range(3), [30], (50, 10), extremes)
    yield from each(range(3), [3], (50, 10), extremes)
    yield from each(range(3), (30, 3), [1], extremes)
    yield from each(range(3), (30, 3), STUDENT_EPOCHS, ['medium'])
    yield from each(range(3, seeds), (30, 3), STUDENT_EPOCHS, CHOICES)
