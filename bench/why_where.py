"Part `where` of bench/why.py: where ce-refine pays, by data, size, teacher, images a class and epochs of the student"
import time
from functools import lru_cache,partial
from itertools import product
from typing import Callable,NamedTuple
from keep import kept, kept_teacher
from why_refine import CE, held_apart
from edf_nrr.augment import DSA
from edf_nrr.datasets import cluttered_digits
from edf_nrr.dbr import label_views, labels_recipe, relabel, train_from_labels
from edf_nrr.files import parquet
from edf_nrr.nrr import refine
from edf_nrr.training import accuracy, random_real

class World(NamedTuple):
    "Data, networks and augmentation of one setting"
    read:Callable # Gives the data
    teacher:str # Network
    student:str # Network
    augment:DSA # Of the teacher, and while refining
    flip:float # Probability of a mirror image in students' views

FLIP,NO_FLIP = DSA('crop_flip', ops='all'),DSA('crop_scale', ops='all')
TEACHER,STUDENT,SMALL = 'convnet_bn_w32','convnet_bn_d2_w32','convnet_bn_d2_w16'
ITERATIONS = 300
SETTINGS = dict(n_train=dict(cifar10=6000, imagenette=7000, digits=4000), held_out=.1, n_test=dict(cifar10=2000, imagenette=2000, digits=1000), object_fraction=.6, iterations=ITERATIONS)

def images(path, n, size): return parquet(path, size=size, n_train=n, n_test=2000, stream=False, device='cpu')

def worlds(path, nette):
    "All settings by name; those of ImageNette if its folder is given"
    res = {f'cifar10 {s} px': World(partial(images, path, 6000, s), TEACHER, STUDENT, FLIP, .5) for s in (16, 32)}
    if nette: res |= {f'imagenette {s} px': World(partial(images, nette, 7000, s), t, n, FLIP, .5) for s,t,n in ((32, TEACHER, STUDENT), (64, 'convnet_bn_d4_w16', 'convnet_bn_d3_w16'))}
    return res | {'cluttered digits 16 px': World(partial(cluttered_digits, 4000, 1000, size=16, object_fraction=.6), SMALL, SMALL, NO_FLIP, 0.)}

@lru_cache
def data_of(world): return held_apart(world.read())

@lru_cache
def teacher_of(world, file, epochs): return kept_teacher(data_of(world)[0], file, world.teacher, epochs=epochs, lr=1e-2, augment=world.augment)

def made(world, teacher, method, ipc, seed):
    "Random real images, refined if `method` says so"
    syn = random_real(data_of(world)[0], ipc, seed)
    how = dict(CE, seed=seed, iterations=ITERATIONS, augment=world.augment)
    return syn if method=='random real' else refine(syn, teacher, show=False, **how)

def student(syn, world, teacher, epochs, seed):
    "A student of the teacher's labels of each view"
    labels = relabel(syn, teacher, 'soft', epochs, views=label_views(syn, seed, flip=world.flip), show=False)
    return train_from_labels(syn, labels, world.student, seed, labels_recipe(syn, epochs, lr=5e-3))

def both(runs, name, world, teacher_epochs, ipc, epochs, method, seed):
    "Accuracies of a student of a set"
    def measured():
        t0,(held,test) = time.time(),data_of(world)
        teacher = teacher_of(world, runs/f'{name}-{teacher_epochs}.safetensors', teacher_epochs)
        net = student(made(world, teacher, method, ipc, seed), world, teacher, epochs, seed)
        return dict(method=method, data=name, labels='soft', arch=world.student, teacher_arch=world.teacher, ipc=ipc, seed=seed, teacher_epochs=teacher_epochs, student_epochs=epochs,
                    teacher=teacher.accuracy, validation=accuracy(net, held), accuracy=accuracy(net, test), seconds=time.time()-t0)
    return kept(runs, [name, world.teacher, world.student, teacher_epochs, ipc, epochs, method, ITERATIONS, seed], measured)

def jobs(path, runs, seeds, nette=None):
    "All jobs, the most telling first"
    known = worlds(path, nette)
    def pairs(name, teacher_epochs, ipc, epochs, these=range(seeds)):
        if name not in known: return
        for s,m in product(these, ('random real', 'ce-refine')): yield f'{name}, {teacher_epochs}, {ipc}, {epochs}, {m} {s}',partial(both, runs, name, known[name], teacher_epochs, ipc, epochs, m, s)
    yield from pairs('cifar10 16 px', 12, 10, 150)
    yield from pairs('imagenette 32 px', 12, 10, 150, range(3))
    yield from pairs('cifar10 32 px', 12, 10, 150, range(3))
    for t in (3, 30): yield from pairs('cluttered digits 16 px', t, 10, 150)
    yield from pairs('cluttered digits 16 px', 30, 1, 400)
    yield from pairs('cluttered digits 16 px', 30, 50, 40, range(3))
    for ipc,epochs in ((1, 400), (50, 40)): yield from pairs('cifar10 16 px', 12, ipc, epochs, range(3))
    yield from pairs('imagenette 64 px', 10, 10, 100, range(3))
    for o in ('imagenette 32 px', 'cifar10 32 px'): yield from pairs(o, 12, 10, 150, range(3, seeds))
