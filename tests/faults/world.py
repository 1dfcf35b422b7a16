"Tiny data, experts, teachers and sets, made once by the zygote; forks inherit them"
import os,traceback
from pathlib import Path
import numpy as np

EXPERTS = dict(n=2, epochs=3, arch='convnet_d1_w8', lr=.1, momentum=0., batch_size=64)
TEACHER = dict(arch='convnet_bn_d1_w16', epochs=10, lr=1e-2, batch_size=32, augment=None)
WORLD = None

class World:
    "`data` and what was made of it. `other_...`: not the same, though of equal name, size and statistics"
    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.make_data()
        self.make_models()
        self.make_sets()
        in_fork(self.make_pictures)

    def make_data(self):
        from edf_nrr.checks import small_digits
        from edf_nrr.data import ImageData,Split
        self.data = d = small_digits()
        self.zca = d.whiten()
        self.other_data = ImageData(Split(d.train.images.flip(-1), d.train.y), d.test, d.classes, d.norm, d.name)

    def make_models(self):
        from edf_nrr.teachers import save_teacher
        from edf_nrr.training import train_teacher
        from edf_nrr.trajectory import record_experts
        self.experts = record_experts(self.data, self.folder/'experts', show=False, **EXPERTS)
        self.other_experts = record_experts(self.data, self.folder/'other_experts', show=False, **EXPERTS, seed=1)
        self.teacher = train_teacher(self.data, show=False, **TEACHER)
        self.other_teacher = train_teacher(self.data, show=False, **TEACHER, seed=1)
        save_teacher(self.teacher, self.folder/'teacher.safetensors')

    def make_sets(self):
        from edf_nrr.edf import distill
        from edf_nrr.methods import TINY_EDF
        from edf_nrr.training import random_real
        self.hard,self.zca_set = random_real(self.data, 1),random_real(self.zca, 1)
        self.soft = distill(self.data, self.experts, show=False, ipc=1, **TINY_EDF)
        self.soft.save(self.folder/'soft.safetensors')

    def make_pictures(self):
        "Folders of images for the commands, two sets of experts of the first, and a set of the digits"
        from edf_nrr.datasets import digits
        from edf_nrr.load import load_data
        from edf_nrr.training import random_real
        from edf_nrr.trajectory import record_experts
        for name,seed in (('pictures', 0), ('other/pictures', 1)): write_pictures(self.folder/name, seed)
        data = load_data(str(self.folder/'pictures'), size=8)
        for name,seed in (('picture_experts', 0), ('other_picture_experts', 1)):
            record_experts(data, self.folder/name, show=False, seed=seed, **EXPERTS | dict(batch_size=20))
        random_real(digits(device='cpu'), 1).save(self.folder/'digits.safetensors')

def in_fork(f):
    "Call a function in a fork: it starts threads, such as those that decode images, which later forks would wait for in vain"
    pid = os.fork()
    if pid==0:
        try: f()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1]==0, f'{f.__name__} failed'

def write_pictures(folder, seed):
    "Three classes of coloured noise, 8x8, as a folder of images"
    from PIL import Image
    rng = np.random.default_rng(seed)
    for part,n in (('train', 20), ('val', 8)):
        for c,name in enumerate(('blue', 'green', 'red')):
            (folder/part/name).mkdir(parents=True)
            for i in range(n):
                a = rng.integers(0, 120, (8, 8, 3), dtype=np.uint8)
                a[2:6,2:6,2-c] += 130
                Image.fromarray(a).save(folder/part/name/f'{i}.png')

def warm_up():
    "Import what the library imports late"
    import matplotlib.figure,pyarrow.parquet,scipy.stats,sklearn.cluster,torchvision.transforms.v2 # noqa: F401
    import edf_nrr.all,edf_nrr.cli,edf_nrr.codes,edf_nrr.demo # noqa: F401
    import faults.commands,faults.files,faults.tasks # noqa: F401
    edf_nrr.report.html_figure = lambda *args: '' # pictures of a page take longer than all else

def make_world(folder):
    global WORLD
    warm_up()
    WORLD = World(folder)
